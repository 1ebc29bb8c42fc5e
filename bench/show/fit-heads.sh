# SPDX-License-Identifier: Apache-2.0
# every head of a trained 4-layer model found again from captured activations, and cut to half its rank (targets: held-out loss below 1e-10; on 12 heads or more at most a third of the error of cutting the weights' own singular values)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
steps=${1-400}
# shellcheck disable=SC2086 # a list of words
need $packages_build
get_text shakespeare
build_preset release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=${FIT_HEADS_MODEL-}
if [ -z "$model" ]; then
    say "training $steps steps with learned positions"
    build/release/furlong train -f "$text_path" --preset bytes-1m --position learned -c 256 --max-steps "$steps" \
        --eval-steps 0 --save-steps 0 -o "$work/run" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        die "training failed"
    }
    model=$work/run
fi
for layer in 0 1 2 3; do
    for head in 0 1 2 3; do
        build/release/furlong fit-attention --capture -m "$model" -f "$text_path" -c 256 --max-tokens 12K \
            --layer $layer --head $head -o "$work/head.safetensors" >/dev/null 2>&1
        build/release/furlong fit-attention -i "$work/head.safetensors" --causal --starts 2 --held-out 0.25 --rank 16 \
            --json >"$work/json" 2>/dev/null || true
        echo "$layer $head $(json_value "$work/json" held_out_before_rank) $(json_value "$work/json" held_out_loss) $(json_value "$work/json" held_out_plain_svd) $(json_value "$work/json" steps) $(json_value "$work/json" seconds)"
    done
done >"$work/table"
if awk '{
    ratio = $4 / $5
    if ($3 < 1e-10) found++
    if (ratio <= 1 / 3) third++
    sum += log(ratio)
    printf "layer %d, head %d: found to %.1e held out in %d steps, %.0f s; half rank: %.2e held out, plain %.2e, ratio %.3f\n", $1, $2, $3, $6, $7, $4, $5, ratio
}
END {
    printf "%d of %d heads found (target: all, below 1e-10); %d at a third of the plain error or less (target: 12); geometric mean of the ratio %.3f\n", found, NR, third, exp(sum / NR)
    exit !(found == NR && third >= 12)
}' "$work/table"; then
    echo "target met"
else
    echo "target missed"
    exit 1
fi
