# SPDX-License-Identifier: Apache-2.0
# one token through a lookup map with cold weights (target: 1/4.5 of a dense map at 80 % of streaming; 75 % of random reads)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
build_release
threads=$(one_and_two)
rounds=${1-3}
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# The opponent: a dense map of the same type whose weights come at 80 % of what plain reads in one piece reach in the same
# run. Our own dense map in f32 is printed beside it.
round=0
while [ "$round" -lt "$rounds" ]; do
    for type in f32 bf16 int8; do
        for out in 768 3072; do
            for n in $threads; do
                build/release/furlong bench projection --kind lookup --in 768 --out "$out" --tokens 1 \
                    --table-type "$type" --threads "$n" --json | tail -n 1 | tr '{},:"' '     ' |
                    awk -v key="$type $out $n" '
                    {
                        for (i = 1; i < NF; i++) value[$i] = $(i + 1)
                        print key, value["hash_seconds"], value["forward_seconds"], value["dense_forward_seconds"],
                            value["row_bytes"], value["dense_bytes"], value["stream_bytes_per_second"],
                            value["random_bytes_per_second"]
                    }' >>"$results"
            done
        done
    done
    round=$((round + 1))
done
awk '
    {
        key = $1 " " $2 " " $3
        if (!(key in rows)) { order[++count] = key; hash[key] = $4; rows[key] = $5; dense[key] = $6 }
        if ($4 < hash[key]) hash[key] = $4
        if ($5 < rows[key]) rows[key] = $5
        if ($6 < dense[key]) dense[key] = $6
        if ($9 > stream[key]) stream[key] = $9
        if ($10 > random[key]) random[key] = $10
        bytes[key] = $7; dense_bytes[key] = $8
    }
    END {
        for (i = 1; i <= count; i++) {
            key = order[i]
            split(key, part, " ")
            seconds = hash[key] + rows[key]
            ratio = dense_bytes[key] / (0.8 * stream[key]) / seconds
            share = 100 * bytes[key] / rows[key] / random[key]
            short = (ratio < 4.5) + (share < 75)
            printf "%-4s %d threads, 768 to %4d: %6.1f us; dense at 80 %% of %4.1f GB/s %6.1f us: %5.2f times as long, target 4.50; ",
                part[1], part[3], part[2], 1e6 * seconds, 1e-9 * stream[key], 1e6 * ratio * seconds, ratio
            printf "rows at %4.1f GB/s, %3.0f %% of plain reads, target 75 %%; our dense in f32 %.1f us%s\n",
                1e-9 * bytes[key] / rows[key], share, 1e6 * dense[key], short ? "  MISSED" : ""
            missed += short
        }
        exit missed > 0 || count == 0
    }' "$results"
