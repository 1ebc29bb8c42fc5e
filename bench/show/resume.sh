# SPDX-License-Identifier: Apache-2.0
# a run cut and resumed, with other threads, keep or from run.json (target: the same bits)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
for test in resume stop; do sh "tests/e2e/$test.sh" "$ROOT/build/release/furlong"; done
echo "resume: every run ended with the same bits, target: all"
