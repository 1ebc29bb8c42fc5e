# SPDX-License-Identifier: Apache-2.0
# whole-model gradient and logits against float64: error at most 1.5 times PyTorch's in float32, every instruction set
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

# figures ISA TEST: the lines it prints; 77: this machine lacks the instruction set
figures() {
    figures_code=0
    FURLONG_ISA=$1 "build/test/tests/unit_$2" >"$log" 2>&1 || figures_code=$?
    if [ "$figures_code" -eq 77 ]; then
        echo "$1: not on this machine"
    else
        grep -vE '^\[' "$log" || true
        [ "$figures_code" -eq 0 ] || missed=1
    fi
}

echo "against transformers in float64; targets: 1.5 times PyTorch in float32 on the same weights and tokens"
for isa in ref avx2 avx512; do
    figures "$isa" golden
done
echo "against a second implementation in double, nine shapes; bounds: 2 times the plain formula in f32, and 2e-6"
for isa in ref avx2 avx512; do
    echo "$isa:"
    figures "$isa" model_gradient
done
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
