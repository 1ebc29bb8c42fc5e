# SPDX-License-Identifier: Apache-2.0
# The README's two commands and the demo's three next ones in a bare Debian 12 (target: all pass, demo at most 10 min)
set -eu
cd "$(dirname "$0")/../.."
./dev fresh "$@"
awk -F '\t' '
    $3 ~ /^\.\/dev demo/ {
        split($2, t, " ")
        minutes = $2 ~ /min/ ? t[1] + t[3] / 60 : t[1] / 60
        printf "demo, installation and build included: %.1f min, target at most 10\n", minutes
        bad = minutes > 10
        seen = 1
    }
    END { exit bad || !seen }' build/fresh/times
