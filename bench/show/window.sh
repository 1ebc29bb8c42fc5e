# SPDX-License-Identifier: Apache-2.0
# gpt2-124m with a window of 4,096 over 1,048,576 tokens in 8 GiB: the plan of a step, and a real step of one layer (peak at most 8 GiB)
# `./dev show window [TOKENS [LAYERS]]` runs another length, or more layers.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
tokens=${1-1048576}
layers=${2-1}
window=4096
memory=8G
disk=100G
limit=8589934592
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
program=$ROOT/build/release/furlong
scratch=$(mktemp -d "$ROOT/build/window.XXXXXX") # the store goes here: not to a /tmp that may be memory
trap 'rm -rf "$scratch"' EXIT
missed=0

# number KEY FILE: the last number under that key
number() { sed -n "s/.*\"$1\": *\([0-9][0-9.eE+-]*\).*/\1/p" "$2" | tail -n 1; }

# planned NAME OPTION...: the whole model's step
planned() {
    planned_name=$1
    shift
    "$program" plan --preset gpt2-124m -c "$tokens" --memory $memory --disk $disk "$@" --json >"$scratch/plan" 2>"$scratch/err" || {
        [ -s "$scratch/plan" ] || die "$(tail -n 1 "$scratch/err")"
    }
    awk -v name="$planned_name" -v peak="$(number peak_bytes "$scratch/plan")" -v disk="$(number disk_bytes "$scratch/plan")" \
        -v seconds="$(number seconds "$scratch/plan")" -v limit="$limit" 'BEGIN {
        over = peak > limit
        printf "%-34s planned: memory %6.2f GiB, disk %6.1f GiB, %9.0f s a step%s\n", name, peak / 2^30, disk / 2^30, seconds,
            over ? "  (does not fit)" : ""
        exit over }'
}

planned "gpt2-124m, every token seen" || :
planned "gpt2-124m, window $window" --window $window || missed=1

# Token ids, so that the model keeps its own vocabulary: as many bytes as .npy.
{
    printf '\223NUMPY\001\000\166\000%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': ($((tokens + 1)),), }"
    awk -v n="$((tokens + 1))" 'BEGIN { for (i = 0; i < n; i++) { x = (x * 16807 + 11) % 2147483647; printf "%c", 97 + x % 26 } }'
} >"$scratch/ids.npy"
"$program" train -f "$scratch/ids.npy" --preset gpt2-124m --layers "$layers" -c "$tokens" -b "$tokens" --window $window \
    --memory $memory --disk $disk --disk-dir "$scratch" --max-steps 1 --warmup-steps 1 --held-out 0 --eval-steps 0 \
    --save-steps 0 -o "$scratch/run" --json >"$scratch/out" 2>"$scratch/err" || {
    tail -n 5 "$scratch/err" >&2
    die "the step failed"
}
awk -v layers="$layers" -v tokens="$(number tokens "$scratch/out")" -v wanted="$tokens" -v limit="$limit" \
    -v peak="$(number peak_rss_bytes "$scratch/out")" -v plan="$(number planned_peak_bytes "$scratch/out")" \
    -v arena="$(number arena_peak_bytes "$scratch/out")" -v laid="$(number planned_arena_bytes "$scratch/out")" \
    -v disk="$(number disk_bytes "$scratch/run/run.json")" -v seconds="$(number seconds "$scratch/run/metrics.jsonl")" \
    -v planned="$(number seconds "$scratch/run/run.json")" 'BEGIN {
    printf "%d layer(s), a step over %d tokens:  peak %.2f GiB of %.2f planned, disk %.1f GiB, %.0f s (planned %.0f)\n",
        layers, tokens, peak / 2^30, plan / 2^30, disk / 2^30, seconds, planned
    exit !(tokens == wanted && peak <= limit && peak <= plan && arena == laid) }' || missed=1
echo "window: $([ $missed -eq 0 ] && echo held || echo missed); target: planned and measured memory at most 8 GiB, measured never above the plan"
[ $missed -eq 0 ]
