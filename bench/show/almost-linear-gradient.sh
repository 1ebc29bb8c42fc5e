# SPDX-License-Identifier: Apache-2.0
# almost-linear layers of every degree, window, grouping, packing and direction: gradient against finite differences in double (target 1e-6)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # lists of words
need $packages_build $packages_test
build_preset test
export OMP_WAIT_POLICY=passive # nothing is timed here
missed=0
for isa in ref avx2 avx512; do
    code=0
    output=$(FURLONG_ISA=$isa build/test/tests/unit_almost_linear 2>&1) || code=$?
    if [ "$code" -eq 77 ]; then
        echo "$isa: not on this machine"
        continue
    fi
    printf '%s: %s\n' "$isa" "$(printf '%s\n' "$output" | grep -E 'combinations|ERROR' | head -n 1)"
    [ "$code" -eq 0 ] || missed=1
done
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
