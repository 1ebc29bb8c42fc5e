# SPDX-License-Identifier: Apache-2.0
# a whole step of gpt2-124m against PyTorch's, in turn (target: f32 1.15 times, bf16 2 times as fast, 4,096 tokens in 2.6G)
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
missed=0
for row in '1024 f32 1.15' '1024 bf16 2.0' '4096 bf16 2.0 2.6G'; do
    # shellcheck disable=SC2086 # a list of words
    set -- "${1-3}" $row
    "$peers_python" bench/peers/step_speed.py build/release/furlong "$2" "$threads" "$1" "$3" "$4" ${5+"$5"} || missed=1
done
exit $missed
