# SPDX-License-Identifier: Apache-2.0
# a training step of mf-small, 4 documents of 2,048 tokens and 32 of them: the optimizer's share, peak memory (targets: at most 25 % of the step of 65,536 tokens, 10 GB, peak within the plan)
# lookup-step.sh [PRESET]
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
build_release
preset=${1-mf-small}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

value() { sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" "$2"; }

missed=0
for tokens in 8192 65536; do
    build/release/furlong bench step --preset "$preset" --tokens "$tokens" -c 2048 --memory 20G --json 2>/dev/null >"$scratch/out"
    awk -v tokens="$tokens" -v seconds="$(value seconds "$scratch/out")" -v update="$(value update_seconds "$scratch/out")" \
        -v peak="$(value peak_rss_bytes "$scratch/out")" -v planned="$(value planned_peak_bytes "$scratch/out")" \
        -v expected="$(value planned_seconds "$scratch/out")" -v preset="$preset" 'BEGIN {
        share = 100 * update / seconds
        missed = peak > 1e10 || peak > planned || (tokens == 65536 && share > 25)
        printf "%s, %d documents of 2,048 tokens: %.2f s a step (planned %.2f), %.0f tokens/s, optimizer %.2f s (%.1f %%), peak %.2f GB of %.2f planned%s\n",
            preset, tokens / 2048, seconds, expected, tokens / seconds, update, share, peak / 1e9, planned / 1e9, missed ? "  MISSED" : ""
        exit missed }' || missed=1
done
echo "targets: optimizer at most 25 % of the step of 65,536 tokens; peak at most 10 GB and within the plan"
exit "$missed"
