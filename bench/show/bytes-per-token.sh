# SPDX-License-Identifier: Apache-2.0
# memory that a further token of gpt2-124m takes, 16,384 to 32,768 tokens (target: at most (4 + 16 r + 4 L) d x 1.05)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# f32, layer inputs in RAM, nothing else kept; one whole optimizer step each, the larger about 5 minutes on 2 cores.
for tokens in 16384 32768; do
    build/release/furlong bench step --preset gpt2-124m --tokens "$tokens" --keep nothing --json |
        sed 's/.*"tokens":\([0-9]*\),"seconds":\([0-9.]*\),.*"peak_rss_bytes":\([0-9]*\),.*/\1 \2 \3/' | tee -a "$out" |
        awk '{ printf "%d tokens: peak %.1f MB, one step in %.0f s\n", $1, $3 / 1e6, $2 }'
done
awk '
    { tokens[NR] = $1; peak[NR] = $3 }
    END {
        if (NR != 2) exit 1
        layers = 12; width = 768; r = 1
        slope = (peak[2] - peak[1]) / (tokens[2] - tokens[1])
        target = (4 + 16 * r + 4 * layers) * width * 1.05
        printf "bytes per token: %.0f, target at most %.0f\n", slope, target
        exit !(slope <= target)
    }' "$out"
