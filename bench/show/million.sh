# SPDX-License-Identifier: Apache-2.0
# one exact optimizer step over 1,048,576 bytes (or TOKENS [LAYERS]) in 4 GiB, and 64 rows of each layer checked in float64
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
tokens=${1-1048576}
layers=${2-1}
memory=4294967296
need_peers # numpy is all that is used of them
# shellcheck disable=SC2086 # a list of words
need $packages_build
get_text shakespeare
build_preset release
cmake --build build/release --target observed_step >build/release/observed_step.log 2>&1 || {
    cat build/release/observed_step.log >&2
    die "observed_step does not build"
}
work=build/rows
rm -rf "$work"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
say "one step over $tokens bytes, width 128, $layers layer(s); it writes $((tokens * 128 * 4 * 6 * layers / 1000000)) MB beside for the check"
build/release/bench/rows/observed_step "$work" "$text_path" bytes-1m "$layers" "$tokens" "$memory" 1 | tee "$work/result.json"
code=0
sed 's/.*"peak_rss_bytes":\([0-9]*\),"planned_peak_bytes":\([0-9]*\),.*/\1 \2/' "$work/result.json" |
    awk -v limit="$memory" '
        NF == 2 { printf "peak memory %.0f MiB, planned %.0f, target at most %.0f MiB\n", $1 / 2^20, $2 / 2^20, limit / 2^20
                  ok = $1 <= limit }
        END { exit !ok }' || code=1
"$peers_python" bench/rows/step_rows.py "$work" 64 || code=1
exit "$code"
