# SPDX-License-Identifier: Apache-2.0
# dense, look-up feedforward, all maps look-up: bits per byte of held-out Shakespeare, three seeds, at equal tokens and at equal seconds (target: the hybrid at least as good as dense at equal tokens)
# lookup-quality.sh [STEPS [TABLE-LR]]: steps of 4,096 bytes in documents of 512, one thread a run. Results stay in
# build/quality: what was done is not done again. Equal seconds: those of the fastest run, between two evaluations by
# proportion; learning rates then still are what they were at that step.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
build_release
get_text shakespeare
steps=${1-600}
table_lr=${2-1}
results=build/quality/$steps-$table_lr
mkdir -p "$results"
export text_path results steps table_lr

cat >"$results/job.sh" <<'JOB'
set -eu
name=$1-$2
[ ! -s "$results/$name.jsonl" ] || exit 0
rm -rf "$results/run-$name"
lr=
case $1 in *-hybrid | *-lookup) lr="--table-lr $table_lr" ;; esac
# shellcheck disable=SC2086 # an option and its value
build/release/furlong train -f "$text_path" --preset "$1" -c 512 -b 4096 --max-steps "$steps" --seed "$2" --memory 4G -t 1 $lr \
    --eval-steps $((steps / 10)) --eval-tokens 128K --save-steps 0 -o "$results/run-$name" >"$results/$name.log" 2>&1 || {
    cat "$results/$name.log" >&2
    exit 255
}
mv "$results/run-$name/metrics.jsonl" "$results/$name.jsonl"
rm -rf "$results/run-$name"
JOB
for seed in 1 2 3; do
    for preset in bytes-1m bytes-1m-hybrid bytes-1m-lookup; do echo "$preset $seed"; done
done | OMP_WAIT_POLICY=passive xargs -n 2 -P "$(processors)" sh "$results/job.sh"

for preset in bytes-1m bytes-1m-hybrid bytes-1m-lookup; do
    for seed in 1 2 3; do
        sed -n "s/.*\"step\":\([0-9]*\),.*\"eval_bits_per_byte\":\([0-9.]*\),.*\"seconds\":\([0-9.]*\),.*/$preset $seed \1 \2 \3/p" \
            "$results/$preset-$seed.jsonl"
    done
done | awk -v steps="$steps" '
    {
        run = $1 " " $2
        if (!(run in count)) { runs[++all] = run; name[run] = $1 }
        step[run, ++count[run]] = $3; bits[run, count[run]] = $4; seconds[run, count[run]] = $5
    }
    END {
        least = 1e30
        for (r = 1; r <= all; r++) {
            last = seconds[runs[r], count[runs[r]]]
            if (last < least) least = last
        }
        for (r = 1; r <= all; r++) {
            run = runs[r]; n = count[run]; preset = name[run]
            if (!(preset in seeds)) order[++presets] = preset
            seeds[preset]++
            if (step[run, n] != steps) { print run ": no evaluation at its end"; broken = 1 }
            for (i = 1; i < n && seconds[run, i] < least; i++);
            share = i == 1 ? 1 : (least - seconds[run, i - 1]) / (seconds[run, i] - seconds[run, i - 1])
            if (share > 1) share = 1
            timed = i == 1 ? bits[run, 1] : bits[run, i - 1] + share * (bits[run, i] - bits[run, i - 1])
            end[preset] += bits[run, n]; squares[preset] += bits[run, n] ^ 2
            early[preset] += timed; whole[preset] += seconds[run, n]
        }
        printf "%-16s  at %d steps        at %.0f s  seconds\n", "bits per byte", steps, least
        for (p = 1; p <= presets; p++) {
            preset = order[p]; n = seeds[preset]; mean[p] = end[preset] / n
            spread = squares[preset] / n - mean[p] ^ 2
            printf "%-16s  %.4f +- %.4f  %9.4f  %7.0f\n", preset, mean[p], sqrt(spread > 0 ? spread : 0), early[preset] / n, whole[preset] / n
        }
        missed = broken || presets != 3 || mean[2] > mean[1]
        printf "hybrid against dense at equal tokens: %+.4f bits per byte (target at most 0)%s\n", mean[2] - mean[1], missed ? "  MISSED" : ""
        exit missed
    }'
