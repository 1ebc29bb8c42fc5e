# SPDX-License-Identifier: Apache-2.0
# multiple choice on held-out Shakespeare after the same training: dense, look-up feedforward, all maps look-up (target: each above chance by 3 standard errors)
# choices.sh [STEPS]: optimizer steps of 8,192 bytes in documents of 512. Results stay in build/choices: what was done is
# not done again, and training that was cut off goes on.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
steps=${1-700}
items=1000
presets="bytes-1m bytes-1m-hybrid bytes-1m-lookup"
results=build/choices
# shellcheck disable=SC2086 # a list of words
need $packages_build
get_text shakespeare
build_preset release
cmake --build build/release --target make_choices >build/release/choices.log 2>&1 || {
    cat build/release/choices.log >&2
    die "make_choices does not build"
}
program=build/release/furlong
mkdir -p "$results"
tail -c $(($(wc -c <"$text_path") / 10)) "$text_path" >"$results/held-out.txt"
for lengths in equal own; do
    build/release/bench/choices/make_choices "$text_path" "$items" 1 "$lengths" >"$results/$lengths.jsonl" ||
        die "no items"
done

# quiet COMMAND...: its output to one file, its words only where it fails
quiet() {
    "$@" >"$results/out" 2>"$results/log" || {
        cat "$results/log" >&2
        die "failed: $*"
    }
}

# trained NAME: a finished run of that preset in $run
trained() {
    run=$results/$1-$steps
    last=$(printf 'step-%06d' "$steps")
    [ ! -d "$run/$last" ] || return 0
    if [ -s "$run/latest" ]; then
        say "$1: going on from $(cat "$run/latest")"
        quiet "$program" train --resume --output-dir "$run"
    else
        say "$1: training $steps steps"
        rm -rf "$run"
        quiet "$program" train -f "$text_path" --preset "$1" -c 512 -b 8192 --max-steps "$steps" --eval-steps 0 \
            --eval-tokens 16K --save-steps 50 --keep-checkpoints 1 --memory 4G -o "$run"
    fi
}

# measured NAME WHAT OPTION...: build/choices/NAME-STEPS-WHAT.json from furlong eval
measured() {
    measured_file=$results/$1-$steps-$2.json
    shift 2
    [ ! -s "$measured_file" ] || return 0
    quiet "$program" eval -m "$run" "$@" --memory 4G --json
    mv "$results/out" "$measured_file"
}

value() { sed -n "s/.*\"$2\": *\\([-0-9.e+]*\\).*/\\1/p" "$1"; }

for name in $presets; do
    trained "$name"
    measured "$name" bits -f "$results/held-out.txt" -c 512
    measured "$name" equal --task "$results/equal.jsonl"
    measured "$name" own --task "$results/own.jsonl"
done

echo "$steps steps of 8,192 bytes; the held-out tenth, and $items items of 4 choices from it, prompts of 256 bytes, choices of 32 to 64:"
echo "as long as the right one (where both scores answer alike), and of lengths of their own. Standard errors in parentheses."
for name in $presets; do
    at=$results/$name-$steps
    echo "$name $(value "$at-bits.json" bits_per_byte) $(value "$at-equal.json" accuracy) $(value "$at-equal.json" accuracy_stderr)" \
        "$(value "$at-own.json" accuracy) $(value "$at-own.json" accuracy_stderr)" \
        "$(value "$at-own.json" accuracy_per_byte) $(value "$at-own.json" accuracy_per_byte_stderr) $(value "$at-own.json" chance)"
done | awk '
    BEGIN { printf "%-16s %13s  %16s  %16s  %18s\n", "model", "bits per byte", "equal lengths", "own lengths", "the same, per byte" }
    {
        printf "%-16s %13.4f    %.3f (%.3f)     %.3f (%.3f)       %.3f (%.3f)\n", $1, $2, $3, $4, $5, $6, $7, $8
        missed += !($3 > $9 + 3 * $4 && $7 > $9 + 3 * $8)
        chance = $9
    }
    END {
        printf "chance %.3f; target %s: equal lengths and per byte above it by 3 standard errors, each model\n", chance, missed ? "missed" : "met"
        exit missed > 0
    }'
