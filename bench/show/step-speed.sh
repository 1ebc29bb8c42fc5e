# SPDX-License-Identifier: Apache-2.0
# a whole step of gpt2-124m over 1,024 tokens against PyTorch's, in turn (target: not slower)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
need_peers
# shellcheck disable=SC2086 # a list of words
need $packages_build g++
build_preset release
threads=2
[ "$(processors)" -ge 2 ] || threads=1
"$peers_python" bench/peers/step_speed.py build/release/furlong 1024 "$threads" "${1-3}"
