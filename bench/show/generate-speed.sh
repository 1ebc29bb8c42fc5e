# SPDX-License-Identifier: Apache-2.0
# a prompt and the tokens after it against llama.cpp, SmolLM2 in Q4_1 and Q8_0, in turn (targets: prompt of 4,096 twice as fast, four times with AMX; Q8_0 tokens no slower)
# generate-speed.sh [ROUNDS] [THREADS]: on a quiet machine
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
need_gguf
build_release
get_text bible
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$gguf_python" bench/peers/generate_speed.py build/release/furlong "$text_path" "$work" "${2-$(processors)}" "${1-3}"
