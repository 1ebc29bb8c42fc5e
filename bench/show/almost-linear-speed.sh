# SPDX-License-Identifier: Apache-2.0
# almost-linear attention, degree 2: time against length (exponent at most 1.05), against exact attention (crossover, 20 times at 65,536), rate
# A forward and a backward, f32, window 0 unless said; `./dev show almost-linear-speed quick` leaves out lengths beyond 16,384.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
threads=2
[ "$(processors)" -ge 2 ] || threads=1
results=$(mktemp)
trap 'rm -f "$results"' EXIT
lengths='16384 65536 262144 1048576'
[ "${1-}" != quick ] || lengths='4096 8192 16384'

# time_of NAME KIND TOKENS HEADS WIDTH WINDOW: one line, "NAME tokens seconds gflops peak"
time_of() {
    # shellcheck disable=SC2086 # a window, or nothing
    build/release/furlong bench attention --kind "$2" --tokens "$3" --heads "$4" --head-dim "$5" ${6:+--window $6} \
        --threads "$threads" --json | tail -n 1 | tr '{},:"' '     ' | awk -v name="$1" -v tokens="$3" '{
            for (i = 1; i < NF; i++) value[$i] = $(i + 1)
            seconds = value["forward_seconds"] + value["backward_seconds"]
            flops = value["forward_gflops"] * value["forward_seconds"] + value["backward_gflops"] * value["backward_seconds"]
            print name, tokens, seconds, flops / seconds, value["peak_gflops"] }' >>"$results"
}

for tokens in $lengths; do time_of line almost-linear "$tokens" 8 32 0; done
for tokens in 1024 2048 3072 4096; do
    time_of exact32 exact "$tokens" 24 32 ''
    time_of far32 almost-linear "$tokens" 24 32 0
    time_of window32 almost-linear "$tokens" 24 32 ''
done
for tokens in 4096 6144 8192 10240; do
    time_of exact64 exact "$tokens" 12 64 ''
    time_of far64 almost-linear "$tokens" 12 64 0
done
if [ "${1-}" != quick ]; then
    time_of exact32 exact 65536 24 32 ''
    time_of far32 almost-linear 65536 24 32 0
fi
awk -v threads="$threads" '
    { seconds[$1, $2] = $3; rate[$1, $2] = 100 * $4 / $5 }
    $1 == "line" { n++; x = log($2); y = log($3); sx += x; sy += y; sxx += x * x; sxy += x * y; worst = n == 1 || 100 * $4 / $5 < worst ? 100 * $4 / $5 : worst }
    $1 == "line" { printf "%8d tokens, 8 heads of 32: %8.3f s, %.1f %% of peak\n", $2, $3, 100 * $4 / $5 }
    $1 ~ /^exact/ && !(($1, $2) in seen) { seen[$1, $2]; order[++count] = $1 " " $2 }
    # where the two curves cross, by lengths beside the crossing, on log axes
    function crossing(width, other,    i, part, last, ratio, before, at) {
        at = 0
        for (i = 1; i <= count; i++) {
            split(order[i], part, " ")
            if (part[1] != "exact" width || !((other width, part[2]) in seconds))
                continue
            ratio = log(seconds["exact" width, part[2]] / seconds[other width, part[2]])
            if (ratio >= 0 && !at)
                at = last ? exp(last + (log(part[2]) - last) * -before / (ratio - before)) : part[2]
            last = log(part[2]); before = ratio
        }
        return at
    }
    function verdict(name, value, target, most,    good) {
        good = value > 0 && (most ? value <= target : value >= target)
        printf "%s %.4g, target at %s %g%s\n", name, value, most ? "most" : "least", target, good ? "" : "  MISSED"
        missed += !good
    }
    END {
        print threads " threads, f32"
        verdict("exponent of time in length:", (n * sxy - sx * sy) / (n * sxx - sx * sx), 1.05, 1)
        verdict("share of the peak of the same run, least, %:", worst, 50, 0)
        verdict("faster than exact attention from tokens, heads of 32:", crossing(32, "far"), 3000, 1)
        printf "  with the default window of 128: %d\n", crossing(32, "window")
        verdict("faster than exact attention from tokens, heads of 64:", crossing(64, "far"), 10000, 1)
        if (("exact32", 65536) in seconds)
            verdict("times as fast at 65,536, heads of 32:", seconds["exact32", 65536] / seconds["far32", 65536], 20, 0)
        exit missed > 0
    }' "$results"
