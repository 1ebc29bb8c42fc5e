# SPDX-License-Identifier: Apache-2.0
# tokenizers give the ids of Hugging Face tokenizers on 10 MB of mixed text, in nine styles of file (target: every id)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
need_peers
# shellcheck disable=SC2086 # a list of words
need $packages_build
get_text shakespeare
build_preset release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$peers_python" bench/peers/tokenizers_ids.py build/release/furlong "$work" "$text_path"
