# SPDX-License-Identifier: Apache-2.0
# fit-attention, one step over one causal sequence of 100,000 rows of width 64 (target: above the inputs 2.5 GiB with stored curvature, 300 MiB matrix-free)
# `./dev show fit-memory 20000` takes as many rows, with limits that shrink alike.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
rows=${1-100000}
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
json=$(mktemp)
trap 'rm -f "$json"' EXIT
missed=0
for case in matrix-free:300 stored:2560; do
    route=${case%:*}
    limit=$(awk -v rows="$rows" -v mib="${case#*:}" 'BEGIN { printf "%.0f", mib * 1048576 * (rows > 100000 ? rows / 100000 : 1) }')
    inputs=$((rows * 64 * 2 * 8))
    # the limit of the process: what the route may take above the inputs, the inputs, and 64 MiB of the program itself
    code=0
    build/release/furlong fit-attention --planted "1x${rows}x64" --causal --held-out 0 --starts 1 --steps 1 --tol 0 \
        --route "$route" --memory $((limit + inputs + 67108864)) --json >"$json" 2>/dev/null || code=$?
    if [ "$code" -ne 6 ]; then
        echo "$route: ended with $code, expected 6 (a limit of one step)"
        missed=1
        continue
    fi
    awk -v route="$route" -v rows="$rows" -v peak="$(json_value "$json" peak_rss_bytes)" -v planned="$(json_value "$json" planned_peak_bytes)" \
        -v inputs="$(json_value "$json" input_bytes)" -v seconds="$(json_value "$json" seconds)" -v products="$(json_value "$json" products)" -v limit="$limit" 'BEGIN {
        above = peak - inputs
        printf "%s: one step over %d rows, %d products: %.0f s; peak memory %.0f MiB, planned %.0f, above the inputs %.0f MiB (target %.0f)\n",
            route, rows, products, seconds, peak / 1048576, planned / 1048576, above / 1048576, limit / 1048576
        exit !(above <= limit && peak <= planned)
    }' || missed=1
done
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
