# SPDX-License-Identifier: Apache-2.0
# all pairs of features (windows, sinks, RoPE scalings, ALiBi, dropout, bf16, disk, ...): gradients, leaks, files (target: none refused)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # lists of words
need $packages_build $packages_test
build_preset test
log=$(mktemp)
trap 'rm -f "$log"' EXIT
missed=0
export OMP_WAIT_POLICY=passive # nothing is timed here
echo "every pair on a small model: gradient at most 4 times the plain formula's error a tensor, 2 times in all; no bit out of reach"
for isa in ref avx2 avx512 avx512bf16 amx; do
    code=0
    FURLONG_ISA=$isa build/test/tests/unit_model_pairs >"$log" 2>&1 || code=$?
    if [ "$code" -eq 77 ]; then
        echo "$isa: not on this machine"
        continue
    fi
    echo "$isa:"
    grep -vE '^\[' "$log" || true
    [ "$code" -eq 0 ] || missed=1
done
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
