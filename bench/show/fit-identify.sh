# SPDX-License-Identifier: Apache-2.0
# fit-attention on one unmasked sequence says that the answer is not identified, and how far its starts lie apart (target: both said)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
text=$(mktemp)
trap 'rm -f "$text"' EXIT
build/release/furlong fit-attention --planted 1x256x8 --starts 6 >"$text" 2>/dev/null || true
cat "$text"
if grep -q 'not identified.*different X give the same output' "$text" && [ "$(grep -c '^  random' "$text")" -eq 6 ]; then
    echo "target met"
else
    echo "target missed"
    exit 1
fi
