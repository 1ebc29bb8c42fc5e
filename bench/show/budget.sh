# SPDX-License-Identifier: Apache-2.0
# --memory as a budget: peak never above it, within 5 % of the plan; the plan's seconds within 25 % of a step's (target: all)
# `./dev show budget CASE...` runs some: gpt2-8K gpt2-64K bytes-64K. 64K of gpt2-124m is two of its layers.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
program=$ROOT/build/release/furlong
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
missed=0 runs=0
[ $# -gt 0 ] || set -- gpt2-8K bytes-64K gpt2-64K

# Token ids, so that the model keeps its own vocabulary: 80,000 bytes as .npy.
{
    printf '\223NUMPY\001\000\166\000%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (80000,), }"
    awk 'BEGIN { for (i = 0; i < 80000; i++) { x = (x * 16807 + 11) % 2147483647; printf "%c", 97 + x % 26 } }'
} >"$scratch/ids.npy"

# number KEY FILE: the last number under that key
number() { sed -n "s/.*\"$1\": *\([0-9][0-9.eE+-]*\).*/\1/p" "$2" | tail -n 1; }

# budget LIMIT STEPS OPTION...: a run of so many steps inside the limit
budget() {
    budget_limit=$1 budget_steps=$2
    shift 2
    runs=$((runs + 1))
    rm -rf "$scratch/run"
    "$program" train -f "$scratch/ids.npy" --memory "$budget_limit" --max-steps "$budget_steps" --warmup-steps 1 \
        --held-out 0 --eval-steps 0 --save-steps 0 -o "$scratch/run" --json "$@" >"$scratch/out" 2>"$scratch/err" || {
        tail -n 5 "$scratch/err" >&2
        missed=$((missed + 1))
        return 0
    }
    sed -n 's/^ *\(\(kept\|computed\)[^:]*: .*\)/    \1/p' "$scratch/err"
    awk -v name="$*" -v limit="$budget_limit" -v peak="$(number peak_rss_bytes "$scratch/out")" \
        -v plan="$(number planned_peak_bytes "$scratch/out")" -v planned="$(number seconds "$scratch/run/run.json")" \
        -v tokens="$(number tokens "$scratch/out")" -v steps="$budget_steps" -v disk="$(number disk_bytes "$scratch/run/run.json")" \
        -v rate="$(number tokens_per_second "$scratch/run/metrics.jsonl")" 'BEGIN {
        bytes = limit * (limit ~ /G/ ? 1073741824 : 1048576)
        seconds = tokens / steps / rate
        bad = peak > bytes || peak > plan || peak < 0.95 * plan
        slow = planned < 0.75 * seconds || planned > 1.25 * seconds
        printf "%-44s --memory %-5s peak %7.1f MB of %7.1f planned (%5.1f %%), disk %7.1f MB, step %7.1f s, planned %7.1f%s%s\n",
            name, limit, peak / 1e6, plan / 1e6, 100 * peak / plan, disk / 1e6, seconds, planned,
            bad ? "  MEMORY MISSED" : "", slow ? "  SECONDS MISSED" : ""
        exit bad || slow
    }' || missed=$((missed + 1))
}

for case in "$@"; do
    case $case in
    gpt2-8K) for limit in 3G 4G 8G; do budget $limit 2 --preset gpt2-124m -c 8K; done ;;
    gpt2-64K) for limit in 3G 4G 8G; do budget $limit 1 --preset gpt2-124m --layers 2 -c 64K; done ;;
    bytes-64K) budget 512M 1 --preset bytes-4m -c 64K ;;
    *) die "no case '$case': gpt2-8K gpt2-64K bytes-64K" ;;
    esac
done
echo "budget: $missed of $runs runs missed; target: 0 (peak above --memory or the plan, or more than 5 % below it; seconds more than 25 % off)"
[ "$missed" -eq 0 ]
