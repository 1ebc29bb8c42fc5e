# SPDX-License-Identifier: Apache-2.0
# longest row in the same memory: plain attention, PyTorch's kernel and checkpoints, the same chunked, Furlong (targets 64, 32, 5; 32, 4, 2)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
need_peers
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
threads=2
[ "$(processors)" -ge 2 ] || threads=1
# longest.sh [slopes | bisect]: one of the two alone
"$peers_python" bench/peers/longest.py build/release/furlong "$threads" "$@"
