# SPDX-License-Identifier: Apache-2.0
# GGUF in and out against llama.cpp and the package gguf: SmolLM2's perplexity in seven types, greedy text, exports (targets: perplexity within 0.5 %, values to the bit, text equal)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
need_gguf
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
get_text bible
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$gguf_python" bench/peers/gguf_peer.py build/release/furlong "$text_path" "$work"
