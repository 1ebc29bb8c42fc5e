# SPDX-License-Identifier: Apache-2.0
# peak memory against the plan (target: never above it, within 5 % of it once it exceeds 200 MB), --memory never exceeded
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
missed=0

# value KEY: a number of the object that the last run printed
value() { sed "s/.*\"$1\":\([0-9]*\).*/\1/" "$scratch/out"; }

# judge NAME LIMIT-IN-MIB (0: none)
judge() {
    awk -v name="$1" -v limit="$2" -v peak="$(value peak_rss_bytes)" -v plan="$(value planned_peak_bytes)" 'BEGIN {
        bad = peak > plan || (plan > 200e6 && peak < 0.95 * plan) || (limit > 0 && peak > limit * 1048576)
        printf "%-52s peak %8.1f MB, planned %8.1f MB, %5.1f %%", name, peak / 1e6, plan / 1e6, 100 * peak / plan
        if (limit > 0) printf ", limit %.1f MB", limit * 1.048576
        print bad ? "  MISSED" : ""
        exit bad
    }' || missed=$((missed + 1))
}

# step PRESET TOKENS KEEP
step() {
    "$program" bench step --preset "$1" --tokens "$2" --keep "$3" --json >"$scratch/out"
    judge "step of $1, $2 tokens, --keep $3" 0
}
step bytes-1m 16384 nothing
step bytes-1m 8192 all
step bytes-4m 8192 nothing
step bytes-4m 4096 all
step llama-135m 1024 nothing
step gpt2-124m 1024 auto

awk 'BEGIN { for (i = 0; i < 200000; i++) { x = (x * 16807 + 11) % 2147483647; printf "%c", 97 + x % 26 } }' >"$scratch/text"
for limit in 128 256 512; do
    "$program" train -f "$scratch/text" -c 8K -b 8K --max-steps 2 --eval-tokens 8K --memory "${limit}M" \
        -o "$scratch/run-$limit" --json >"$scratch/out" 2>"$scratch/err"
    judge "train, context 8,192, --memory ${limit}M" "$limit"
done
echo "memory: $missed of 9 runs missed; target: 0 above the plan, more than 5 % below one of 200 MB, or above --memory"
[ "$missed" -eq 0 ]
