# SPDX-License-Identifier: Apache-2.0
# the demo's training, three seeds: held-out Shakespeare (target: 2.7 bits per byte, no rise with distance, PyTorch + 0.02)
set -eu
from=$PWD
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
need_package
# shellcheck disable=SC2086 # a list of words
need $packages_build
get_text shakespeare
build_preset release
threads=2
[ "$(processors)" -ge 2 ] || threads=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# learning.sh [DEMO-FOLDER]: a finished run of the demo on that text, where there is one
[ $# -eq 0 ] || set -- "$(cd "${DEV_FROM-$from}" && realpath -- "$1")"
"$peers_python" bench/peers/learning.py build/release/furlong build/release/libfurlong.so "$text_path" "$work" "$threads" "$@"
