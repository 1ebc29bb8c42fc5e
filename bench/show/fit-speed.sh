# SPDX-License-Identifier: Apache-2.0
# fit-attention against PyTorch's L-BFGS and Adam, each tuned, whitened and raw, with and without Y eliminated (targets: 10 times fewer steps and half the time at 16 x 256; a fifth of the time with spectrum 1/i and at 2 x 2,048)
# Same rows, threads and tolerance 1e-8; seconds count whitening. `./dev show fit-speed LIMIT` stops a peer after so many seconds.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
limit=${1-120}
# shellcheck disable=SC2086 # a list of words
need $packages_build
need_peers
build_preset release
threads=2
[ "$(processors)" -ge 2 ] || threads=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missed=0

# compare NAME SHAPE STEPS-RATIO TIME-RATIO [option...]
compare() {
    compare_name=$1 compare_shape=$2 compare_steps=$3 compare_time=$4 compare_at=$work/$((cases += 1))
    shift 4
    build/release/furlong fit-attention --planted "$compare_shape" --causal "$@" --capture -o "$work/data.safetensors"
    for compare_again in before after; do # the machine may be busier at one end than at the other
        [ "$compare_again" = before ] ||
            "$peers_python" bench/peers/fit_torch.py "$work/data.safetensors" "$threads" "$limit" >"$compare_at.peers" 2>"$work/err" || {
            cat "$work/err" >&2
            die "the peers failed"
        }
        for _ in 1 2 3; do
            build/release/furlong fit-attention -i "$work/data.safetensors" --causal --held-out 0 --starts 1 --tol 1e-11 \
                --json -t "$threads" 2>/dev/null >>"$compare_at.ours" || true
        done
    done
    "$peers_python" bench/peers/fit_table.py "$compare_name" "$compare_steps" "$compare_time" "$compare_at.ours" "$compare_at.peers" || missed=1
}
cases=0
compare "16 x 256, white" 16x256x64 10 2
compare "16 x 256, spectrum 1/i" 16x256x64 0 5 --spectrum 1
compare "2 x 2048, white" 2x2048x64 0 5
compare "16 x 256, noise 10 %" 16x256x64 0 0 --noise 0.1
"$peers_python" bench/peers/fit_picture.py build/fit-speed.svg "16 x 256" "$work/1.ours" "$work/1.peers" \
    "16 x 256, spectrum 1/i" "$work/2.ours" "$work/2.peers"
echo "picture: build/fit-speed.svg"
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
