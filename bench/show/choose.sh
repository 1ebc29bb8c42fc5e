# SPDX-License-Identifier: Apache-2.0
# which mixture of attention: 12 variants x 1 seed, the best 3 x 3 seeds, text and recall beyond the window (target: the preset within 1 % of plain's bits per byte and 2 points of its recall)
# choose.sh [FIRST-STEPS [SECOND-STEPS [RECALL-STEPS]]]: optimizer steps of 2,048 bytes in the first and the second stage
# (0: none), of recall in both: about 2 and 10 minutes a run on one thread. Results stay in build/choose: what was done is
# not done again.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
get_text shakespeare
build_preset release
cmake --build build/release --target recall >build/release/recall.log 2>&1 || {
    cat build/release/recall.log >&2
    die "recall does not build"
}
first_steps=${1-300}
second_steps=${2-1500}
recall_steps=${3-1200}
results=build/choose
mkdir -p "$results"
export ROOT text_path results first_steps second_steps recall_steps

# name: attention and window of four layers of text | of two layers of recall | chunks of both | bound | bias
variants() {
    echo "plain|exact|none|exact|none|-|-|0|none"
    echo "window|exact|192|exact|48|-|-|0|none"
    echo "capped|almost-linear|0|almost-linear|0|16|16|4|none"
    for bound in 1 2 4 8; do
        for bias in none bias; do
            suffix=
            [ "$bias" = none ] || suffix=-bias
            echo "far-$bound$suffix|almost-linear|128|almost-linear|32|128|32|$bound|$bias"
        done
    done
    echo "mixture|almost-linear@0-2,exact@3|128@0-2,none@3|almost-linear@0,exact@1|32@0,none@1|128|32|1|bias"
}

# job STAGE SEED VARIANT-LINE: text, then recall, on one thread
cat >"$results/job.sh" <<'JOB'
set -eu
stage=$1 seed=$2
IFS='|' read -r name attention window recall_attention recall_window chunk recall_chunk bound bias <<LINE
$3
LINE
steps=$first_steps
[ "$stage" -eq 1 ] || steps=$second_steps
out=$results/$name-$steps-$seed.json
far=
if [ "$chunk" != - ]; then
    far="--chunk $chunk --bound $bound"
    [ "$bias" = none ] || far="$far --far-bias"
fi
if [ ! -s "$out" ]; then
    folder=$results/run-$name-$seed-$$
    rm -rf "$folder"
    # shellcheck disable=SC2086 # lists of words
    build/release/furlong train -f "$text_path" --preset bytes-1m -c 2048 -b 2048 --max-steps "$steps" --seed "$seed" \
        --attention "$attention" --window "$window" $far --eval-steps 0 --eval-tokens 256K --save-steps 0 --memory 2G \
        -t 1 -o "$folder" --json 2>/dev/null >"$out.part"
    rm -rf "$folder"
    mv "$out.part" "$out"
fi
out=$results/$name-recall-$recall_steps-$seed.json
if [ ! -s "$out" ]; then
    build/release/bench/recall/recall "$recall_attention" "$recall_window" "${recall_chunk#-}" "$bound" "$bias" \
        "$recall_steps" "$seed" 1 2>/dev/null >"$out.part"
    mv "$out.part" "$out"
fi
JOB

value() { sed -n "s/.*\"$2\": *\\([-0-9.e+]*\\).*/\\1/p" "$1"; }

# rows STEPS SEEDS NAMES...: name, mean bits per byte, mean accuracy
rows() {
    steps=$1 seeds=$2
    shift 2
    for name in "$@"; do
        for seed in $seeds; do
            echo "$name $(value "$results/$name-$steps-$seed.json" bits_per_byte) $(value "$results/$name-recall-$recall_steps-$seed.json" accuracy)"
        done
    done | awk '{ bits[$1] += $2; right[$1] += $3; count[$1]++ } END { for (n in count) printf "%s %.4f %.3f\n", n, bits[n] / count[n], right[n] / count[n] }' | sort -k2n
}

run() { # STAGE SEEDS, variants on stdin
    stage=$1 seeds=$2
    while read -r line; do
        for seed in $seeds; do printf '%s\0%s\0%s\0' "$stage" "$seed" "$line"; done
    done | OMP_WAIT_POLICY=passive xargs -0 -n 3 -P "$(processors)" sh "$results/job.sh"
}

say "stage 1: 12 variants, $first_steps steps of a document of 2,048 bytes; recall, $recall_steps steps; seed 1"
variants | run 1 1
names=$(variants | cut -d'|' -f1)
# shellcheck disable=SC2086 # a list of words
rows "$first_steps" 1 $names | tee "$results/stage-1.txt" | awk '{ printf "%-12s %s bits per byte, recall %s\n", $1, $2, $3 }'
[ "$second_steps" -gt 0 ] || exit 0

# the best three beside plain: by bits per byte plus what recall lacks of plain's, a bit for all of it
plain=$(awk '$1 == "plain" { print $3 }' "$results/stage-1.txt")
best=$(awk -v plain="$plain" '$1 != "plain" { lack = plain - $3; print $2 + (lack > 0 ? lack : 0), $1 }' "$results/stage-1.txt" |
    sort -n | head -n 3 | cut -d' ' -f2)
# shellcheck disable=SC2086 # a list of words
say "stage 2: three seeds, $second_steps steps:" plain $best
for name in plain $best; do variants | grep "^$name|"; done | run 2 "1 2 3"
# shellcheck disable=SC2086 # a list of words
rows "$second_steps" "1 2 3" plain $best | tee "$results/stage-2.txt" |
    awk '{ printf "%-12s %s bits per byte, recall %s (mean of three seeds)\n", $1, $2, $3 }'
for name in exact "almost-linear@0-2,exact@3"; do
    build/release/furlong bench step --preset bytes-1m --attention "$name" --tokens 65536 --json |
        sed -n "s/.*\"seconds\": *\\([0-9.]*\\).*/$name: \\1 s a step of 65,536 bytes/p"
done
awk '
    $1 == "plain" { bits = $2; right = $3 }
    $1 == "mixture" { mine = $2; mine_right = $3; found = 1 }
    END {
        if (!found) { print "the preset (mixture) is not among the best three: target missed"; exit 1 }
        printf "mixture against plain: %+.2f %% bits per byte (target at most 1), %+.1f points of recall (target at least -2)\n",
            100 * (mine / bits - 1), 100 * (mine_right - right)
        exit !(mine <= 1.01 * bits && mine_right >= right - 0.02)
    }' "$results/stage-2.txt"
