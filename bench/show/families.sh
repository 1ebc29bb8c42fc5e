# SPDX-License-Identifier: Apache-2.0
# each family of models against transformers: logits and gradients (2e-4 of their spread), greedy text, files to the bit
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
"$peers_python" bench/peers/families.py build/release/furlong "$work" "$@"
