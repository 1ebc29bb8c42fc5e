#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# planted.sh: a head drawn at random, its inputs and outputs, and the head found again from them alone. Wants `furlong` in
# PATH, or its place in FURLONG.
set -eu
furlong=${FURLONG:-furlong}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "1. 16 sequences of 128 rows of width 32 through a planted head, as a file any program can write"
"$furlong" fit-attention --planted 16x128x32 --causal --capture -o "$work/head.safetensors"

echo "2. queries, keys and values from that file: steps, held-out loss, how far to trust it"
"$furlong" fit-attention -i "$work/head.safetensors" --causal -o "$work/fitted.safetensors" --picture "$work/loss.svg"

echo "3. the same with 10 % noise: the loss ends near 0.01, the square of it, held out as well"
"$furlong" fit-attention --planted 16x128x32 --causal --noise 0.1

echo "4. without a mask, one sequence does not determine the head: the starts end apart, and the report says so"
"$furlong" fit-attention --planted 1x256x8 || [ $? -eq 6 ]
