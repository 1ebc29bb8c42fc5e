#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# half_head.sh TEXT [MODEL LAYER HEAD]: a head of a trained model cut to half its width and put back, and the model's loss
# before and after; then the same with the weights' own singular values cut, for comparison of the head's error. Without a
# model it trains a small one with learned positions for 400 steps. Wants `furlong` in PATH, or its place in FURLONG.
set -eu
furlong=${FURLONG:-furlong}
text=${1:?a text}
model=${2-}
layer=${3-2}
head=${4-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "$model" ]; then
    model=$work/run
    "$furlong" train -f "$text" --preset bytes-1m --position learned -c 256 --max-steps 400 --eval-steps 0 \
        --save-steps 0 -o "$model"
fi
loss() { "$furlong" eval -m "$1" -f "$text" -c 256 --max-tokens 64K --json 2>/dev/null | grep -o '"loss":[^,]*' | head -n 1; }

echo "loss of the model:                     $(loss "$model")"
"$furlong" fit-attention --capture -m "$model" -f "$text" -c 256 --max-tokens 12K --layer "$layer" --head "$head" \
    -o "$work/head.safetensors"
"$furlong" fit-attention -i "$work/head.safetensors" --causal --held-out 0.25 --starts 2 --rank 16 \
    -m "$model" --layer "$layer" --head "$head" --install "$work/half" -o "$work/fitted.safetensors" || [ $? -eq 6 ]
echo "with head $head of layer $layer at rank 16 of 32: $(loss "$work/half")"
