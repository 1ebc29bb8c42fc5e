# SPDX-License-Identifier: Apache-2.0
# transformers loads a checkpoint of each family that Furlong writes, with equal logits (target: 2e-4 of their spread)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
need_package
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$peers_python" bench/peers/hf_load.py build/release/furlong "$work"
