# SPDX-License-Identifier: Apache-2.0
# kill -9 at a random moment of a save, 50 times (target: --resume latest loads every time)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
sh tests/e2e/kill.sh "$ROOT/build/release/furlong" "${1-50}"
