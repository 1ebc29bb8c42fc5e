# SPDX-License-Identifier: Apache-2.0
# fit-attention's error by step, exact and sketched curvature, beside the theory's log(1/eps) (target: sketched linear to 1e-10, rate below 1 in each step from the fourth; exact to 1e-20 in 9 steps)
# The theory (arXiv 2309.07418 and its family) promises contraction by a constant below 1, such as 0.4, near the solution.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missed=0

# follow NAME WORD...: error (root of the relative loss) of every step, and the mean contraction of the later ones
follow() {
    follow_name=$1
    shift
    build/release/furlong fit-attention --planted 16x64x16 --causal --held-out 0 --starts 1 --steps 200 --tol 1e-20 \
        --json "$@" >"$work/json" 2>/dev/null || true
    sed 's/.*"history":\[//; s/\].*//' "$work/json" | tr '{' '\n' | sed -n 's/"step":\([0-9]*\),"loss":\([^,]*\),.*/\1 \2/p' |
        awk -v name="$follow_name" -v exact="$follow_exact" '
            { error[NR - 1] = sqrt($2) }
            END {
                line = ""
                for (i = 0; i < NR; i++)
                    if (i < 12 || i % 10 == 0 || i == NR - 1) line = line sprintf(" %d:%.1e", i, error[i])
                worst = 0
                for (i = 4; i < NR; i++) {
                    rate = error[i] / error[i - 1]
                    if (rate > worst) worst = rate
                }
                last = NR - 1
                mean = last > 4 ? (error[last] / error[4]) ^ (1 / (last - 4)) : error[last] / error[last - 1]
                printf "%-28s %3d steps to %.1e; contraction %.3f a step on the mean from the fourth, %.3f at worst (theory: 0.4)\n   %s\n", name, last, error[last], mean, worst, line
                exit exact ? !(error[last] <= 1e-10 && last <= 9) : !(error[last] <= 1e-5 && worst < 1)
            }' || missed=1
}
follow_exact=1
follow "gauss-newton, all rows"
follow_exact=0
for rows in 512 256 128; do
    follow "uniform, $rows of 1024 rows" --method sketched-newton --curvature-rows $rows
    follow "leverage, $rows of 1024 rows" --method sketched-newton --sketch leverage --curvature-rows $rows
    follow "CountSketch, $rows buckets" --method sketched-newton --sketch count --curvature-rows $rows
done
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
