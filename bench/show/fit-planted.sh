# SPDX-License-Identifier: Apache-2.0
# fit-attention finds planted heads of width 8, 16 and 32 from random starts (target: 19 of 20 seeds to 1e-20 in at most 14 steps)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
seeds=${1-20}
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
json=$(mktemp)
trap 'rm -f "$json"' EXIT
missed=0
for width in 8 16 32; do
    good=0
    most=0
    starts=
    seed=1
    while [ "$seed" -le "$seeds" ]; do
        build/release/furlong fit-attention --planted "16x64x$width" --causal --held-out 0 --seed "$seed" --json >"$json" 2>/dev/null || true
        steps=$(json_value "$json" steps)
        if awk -v loss="$(json_value "$json" loss)" -v steps="$steps" \
            'BEGIN { exit !(loss <= 1e-20 && steps <= 14) }'; then good=$((good + 1)); fi
        [ "$steps" -le "$most" ] || most=$steps
        starts="$starts
    seed $seed: $(sed 's/.*"starts":\[//; s/\].*//' "$json" | tr '{' '\n' | sed -n 's/"loss":\([^,]*\),"steps":\([0-9]*\),"end":"\([a-z]*\)".*/\1 in \2 steps (\3)/p' | tr '\n' ' ')"
        seed=$((seed + 1))
    done
    echo "width $width: $good of $seeds seeds to 1e-20 in at most $most steps (target: all but one in 14); every start:$starts"
    [ "$good" -ge $((seeds - seeds / 20)) ] || missed=1
done
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
