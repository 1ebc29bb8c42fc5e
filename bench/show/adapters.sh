# SPDX-License-Identifier: Apache-2.0
# adapters from PEFT and to it: gradients against autograd, logits there and merged (targets: 2e-4)
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
"$peers_python" bench/peers/adapters.py build/release/furlong "$work"
