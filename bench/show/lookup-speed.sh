# SPDX-License-Identifier: Apache-2.0
# lookup maps of 8,192 tokens against the f32 product, hash included (target: f32 1.15 times, bf16 1.6, int8 2.3 as fast)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
build_release
threads=$(one_and_two)
rounds=${1-2}
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# Within a run the lookup and the dense products are called in turn. best: with the machine's own instruction set.
measure() { # NAME [OPTION...]
    name=$1
    shift
    for out in 768 3072; do
        for type in f32 bf16 int8; do
            for codes in uniform skewed; do
                for n in $threads; do
                    build/release/furlong bench projection --kind lookup --in 768 --out "$out" --tokens 8192 \
                        --table-type "$type" --codes "$codes" --threads "$n" "$@" --json | tail -n 1 |
                        tr '{},:"' '     ' | awk -v key="$name $out $type $codes $n" '
                        {
                            for (i = 1; i < NF; i++) value[$i] = $(i + 1)
                            print key, value["isa"], value["hash_seconds"] + value["forward_seconds"],
                                value["dense_forward_seconds"], value["dense_bf16_forward_seconds"],
                                value["code_entropy"]
                        }' >>"$results"
                done
            done
        done
    done
}
round=0
while [ "$round" -lt "$rounds" ]; do
    measure best
    measure avx2 --isa avx2
    round=$((round + 1))
done
awk '
    BEGIN { target["f32"] = 1.15; target["bf16"] = 1.6; target["int8"] = 2.3 }
    {
        key = $1 " " $2 " " $3 " " $4 " " $5
        if (!(key in seconds)) { order[++count] = key; seconds[key] = $7; dense[key] = $8; bf16[key] = $9 }
        if ($7 < seconds[key]) seconds[key] = $7
        if ($8 < dense[key]) dense[key] = $8
        if ($9 < bf16[key]) bf16[key] = $9
        isa[key] = $6; bits[key] = $10
    }
    END {
        for (i = 1; i <= count; i++) {
            key = order[i]
            split(key, part, " ")
            ratio = dense[key] / seconds[key]
            short = part[1] == "best" && ratio < target[part[3]]
            printf "%-10s %d threads, 768 to %4d, %-4s codes of %.1f bits: %6.2f ms, dense f32 %6.2f ms: %.2f times as fast",
                isa[key], part[5], part[2], part[3], bits[key], 1e3 * seconds[key], 1e3 * dense[key], ratio
            if (part[1] == "best")
                printf ", target %.2f", target[part[3]]
            printf "; dense bf16 %.2f%s\n", bf16[key] / seconds[key], short ? "  MISSED" : ""
            missed += short
        }
        exit missed > 0 || count == 0
    }' "$results"
