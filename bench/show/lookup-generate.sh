# SPDX-License-Identifier: Apache-2.0
# a token of gpt2-124m-lookup against one of gpt2-124m, weights cold, and the output head's share (target: layers 4.5 times as fast)
# lookup-generate.sh [ROUNDS]: in turn, the fastest token of all rounds counts. The dense model has weights of f32, as the
# head of both; tables are of f32, bf16 and int8. A type that does not fit the memory is left out and named.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
build_release
threads=$(one_and_two)
rounds=${1-3}
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# decode NAME THREADS OPTIONS...: one line of figures, or why there is none
decode() {
    name=$1
    n=$2
    shift 2
    code=0
    build/release/furlong bench decode "$@" --cold --threads "$n" --json >"$results.json" 2>"$results.err" || code=$?
    if [ "$code" -eq 4 ]; then
        echo "$name, $n threads: $(cat "$results.err")"
        return 0
    fi
    [ "$code" -eq 0 ] || {
        cat "$results.err" >&2
        exit 1
    }
    tail -n 1 "$results.json" | tr '{},:"' '     ' | awk -v key="$name $n" '
        {
            for (i = 1; i < NF; i++) value[$i] = $(i + 1)
            print key, value["seconds"], value["head_seconds"], value["read_bytes"], value["head_bytes"]
        }' >>"$results"
    rm -f "$results.json" "$results.err"
}

round=0
while [ "$round" -lt "$rounds" ]; do
    for n in $threads; do
        decode dense "$n" --preset gpt2-124m
        for type in f32 bf16 int8; do
            decode "$type" "$n" --preset gpt2-124m-lookup --table-type "$type"
        done
    done
    round=$((round + 1))
done
awk '
    {
        key = $1 " " $2
        if (!(key in token)) { order[++count] = key; token[key] = $3; head[key] = $4; layers[key] = $3 - $4 }
        if ($3 < token[key]) { token[key] = $3; head[key] = $4 }
        if ($3 - $4 < layers[key]) layers[key] = $3 - $4
        read[key] = $5; head_bytes[key] = $6
    }
    END {
        for (i = 1; i <= count; i++) {
            key = order[i]
            split(key, part, " ")
            dense = "dense " part[2]
            printf "%-15s %d threads: %6.1f tokens/s, %6.2f ms a token, of it the head %5.2f ms, %2.0f %%; maps read %6.1f MB, the head %5.1f",
                part[1] == "dense" ? "gpt2-124m" : "lookup, " part[1], part[2], 1 / token[key], 1e3 * token[key],
                1e3 * head[key], 100 * head[key] / token[key], 1e-6 * read[key], 1e-6 * head_bytes[key]
            if (part[1] == "dense") { printf "\n"; continue }
            ratio = layers[dense] / layers[key]
            printf "; %.2f times as fast as dense, layers alone %.2f times, target 4.50%s\n", token[dense] / token[key],
                ratio, ratio < 4.5 ? "  MISSED" : ""
            missed += ratio < 4.5
            compared++
        }
        exit missed > 0 || compared == 0
    }' "$results"
