# SPDX-License-Identifier: Apache-2.0
# every bad input of the issue (target: one clear line and the documented code)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
for test in bad_input bad_model disk; do sh "tests/e2e/$test.sh" "$ROOT/build/release/furlong"; done |
    awk '{ print } /^ok: /{ count++ } /^FAILED/ { bad = 1 } END { print "bad input: " count + 0 " refusals as documented, " bad + 0 " not; target 0"; exit bad || count < 100 }'
