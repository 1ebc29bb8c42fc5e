#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fit.sh PROGRAM: fit-attention as people and scripts meet it: results, exit codes, bad input, interrupt.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

# byte NUMBER: one byte
byte() { printf '%b' "\\0$(printf '%03o' "$1")"; }

# safetensors HEADER: its beginning; data follow
safetensors() {
    safetensors_size=${#1}
    byte $((safetensors_size % 256))
    byte $((safetensors_size / 256))
    printf '\0\0\0\0\0\0%s' "$1"
}

# numbers COUNT [SKIP]: so many bf16 between 0.6 and 1: each letter of a text is the lower byte of one, 0x3f the upper
numbers() { words $(($1 + ${2-0})) | tail -c "$1" | tr '\n' ' ' | sed 's/./&?/g'; }

# head_file NAME SHAPE-OF-X SHAPE-OF-B COUNT COUNT: x and b of bf16
head_file() {
    {
        safetensors "{\"x\":{\"dtype\":\"BF16\",\"shape\":[$2],\"data_offsets\":[0,$((2 * $4))]},\"b\":{\"dtype\":\"BF16\",\"shape\":[$3],\"data_offsets\":[$((2 * $4)),$((2 * $4 + 2 * $5))]}}"
        numbers "$4"
        numbers "$5" 777
    } >"$1"
}

# ---- results ---------------------------------------------------------------------------------------------------------

expect 0 fit-attention --planted 16x48x8 --causal -o out.safetensors --picture loss.svg --json -t 1
[ "$(wc -l <out)" -eq 1 ] || fail "more than one line of JSON"
[ "$(number loss out)" != '' ] || fail "no loss"
awk -v loss="$(number held_out_loss out)" 'BEGIN { exit !(loss < 1e-15) }' || fail "held-out loss of a planted head"
grep -q '"end":"tolerance"' out || fail "does not say how it ended"
says 'start 1, step 1: loss'
grep -q '<svg xmlns' loss.svg || fail "no picture"
grep -aq 'no 1/sqrt(d) is applied' out.safetensors || fail "no scale convention"
pass "a planted head, its file and picture"
cp out first
expect 0 fit-attention --planted 16x48x8 --causal --json -t 2
for key in held_out_loss largest_error logit_max spread; do
    [ "$(number $key out)" = "$(number $key first)" ] || fail "$key depends on the number of threads"
done
pass "the same figures for one and two threads"

head_file head.safetensors 6,40,4 6,40,3 960 720
expect 0 fit-attention -i head.safetensors --causal -o half.safetensors --rank 2 --ridge 1 -t 1
grep -q 'with plain singular values cut' out || fail "nothing about the rank"
expect 0 fit-attention -i head.safetensors --causal --method sketched-newton --curvature-rows 64 --starts 1 --ridge 1 -t 1
expect 0 fit-attention -i head.safetensors --causal --method linear -t 1
grep -q 'no sum of heads is below' out || fail "no lower bound"
pass "rank, sketch, linear"

expect 6 fit-attention -i head.safetensors --steps 1 --starts 1 --tol 0 -o early.safetensors -t 1
[ -s early.safetensors ] || fail "a run that reached its limit wrote nothing"
expect 6 fit-attention --planted 1x100x6 --steps 3 --starts 2 -t 1
grep -q 'not identified' out || fail "one unmasked sequence is not warned of"
pass "6 a limit is reached, the result written"

# ---- stopped ---------------------------------------------------------------------------------------------------------

"$program" fit-attention --planted 8x500x48 --tol 0 --steps 5000 --ridge 0.01 --starts 32 --noise 0.5 -o stopped.safetensors \
    -t 1 >stopped.out 2>stopped.err </dev/null &
stopped=$!
wait_for 120 grep -q "step 1:" stopped.err
kill -INT $stopped
code=0
wait $stopped || code=$?
[ "$code" -eq 130 ] || fail "code $code after SIGINT, wanted 130"
[ -s stopped.safetensors ] || fail "a stopped run wrote nothing"
pass "130 SIGINT, the result written"

# ---- heads of a model -----------------------------------------------------------------------------------------------

words 20000 >text
expect 0 train -f text --preset bytes-1m --layers 1 --position learned -c 64 --max-steps 5 --eval-steps 0 --save-steps 0 -o run -t 1
expect 0 fit-attention --capture -m run -f text -c 64 --max-tokens 2K --head 1 -o captured.safetensors --json -t 1
[ "$(number sequences out) $(number rows out) $(number b_width out)" = '32 2048 32' ] ||
    fail "captured something else: $(cat out)"
expect 6 fit-attention -i captured.safetensors --causal --cut 0.1 --rank 8 --steps 1 --starts 1 --tol 0 -m run --head 1 \
    --install fitted --json -t 1
awk -v loss="$(number held_out_loss out)" 'BEGIN { exit !(loss < 0.5) }' || fail "a head of a model is far from found: $(cat out)"
expect 0 eval -m run -f text -c 64 --max-tokens 2K --json -t 1
before=$(number loss out)
expect 0 eval -m fitted -f text -c 64 --max-tokens 2K --json -t 1
awk -v a="$before" -v b="$(number loss out)" 'BEGIN { exit !(a - b < 0.1 && b - a < 0.1 && a != b) }' ||
    fail "the fitted head changes the loss from $before to $(number loss out)"
pass "a head recorded, fitted and put back: the loss changes little"
refused 2 '--install: fitted exists already' -- fit-attention -i captured.safetensors -m run --install fitted
expect 2 fit-attention -i captured.safetensors --causal --cut 0.001 --steps 0 --starts 1 -m run --install other
says 'for heads of width 32: fit it with that rank'
[ ! -e other ] || fail "a model was saved although the head does not fit it"
refused 2 'layer 1, head 0 of a model of 1 layers' -- fit-attention --capture -m run -f text --layer 1 -o no.safetensors
refused 2 '--capture: expected the folder of a model' -- fit-attention --capture -f text -o no.safetensors
refused 2 '--capture: expected a text' -- fit-attention --capture -m run -o no.safetensors
refused 2 '--capture: expected a file' -- fit-attention --capture -m run -f text
expect 0 train -f text --preset bytes-1m --layers 1 -c 64 --max-steps 2 --eval-steps 0 --save-steps 0 -o rotary -t 1
expect 0 fit-attention --capture -m rotary -f text -c 64 --max-tokens 2K -o rotary.safetensors --json -t 1
[ "$(number a1_width out)" = 32 ] || fail "queries after rotation have another width"
pass "a rotary head: queries and keys after rotation"

# ---- bad input -------------------------------------------------------------------------------------------------------

refused 2 '--input: expected a file' -- fit-attention
refused 2 '--planted' "'16x'" -- fit-attention --planted 16x
refused 2 'rank 9, expected at most the width of the inputs, 4' -- fit-attention -i head.safetensors --rank 9
refused 2 "--method: " -- fit-attention -i head.safetensors --method magic
refused 3 'none.npz: cannot open' -- fit-attention -i none.npz
cp head.safetensors head.bin
refused 3 'head.bin: expected a name that ends with .npz or .safetensors' -- fit-attention -i head.bin
head -c 300 head.safetensors >cut.safetensors
refused 3 cut.safetensors -- fit-attention -i cut.safetensors
printf 'PK\005\006' >short.npz
refused 3 'short.npz: no .npz archive' -- fit-attention -i short.npz
head_file other.safetensors 6,40,4 6,39,3 960 702
refused 3 'array "b" has shape [6, 39, 3], expected [6, 40, d] as the others' -- fit-attention -i other.safetensors
head_file few.safetensors 5,4 5,3 20 15
refused 3 'few.safetensors: ' 'too few' -- fit-attention -i few.safetensors --causal
sed 's/"b"/"c"/' head.safetensors >missing.safetensors
refused 3 'array "b" is missing: expected x, or a1, a2 and a3; and b' -- fit-attention -i missing.safetensors
sed 's/"BF16"/"QQ16"/' head.safetensors >type.safetensors
refused 3 type.safetensors QQ16 -- fit-attention -i type.safetensors
{
    safetensors '{"x":{"dtype":"BF16","shape":[40,2],"data_offsets":[0,160]},"b":{"dtype":"BF16","shape":[40,1],"data_offsets":[160,240]}}'
    numbers 37
    printf '\300\177' # NaN
    numbers 42
    numbers 40 9
} >nan.safetensors
refused 3 'nan.safetensors: array "x", row 18, column 1 is nan' -- fit-attention -i nan.safetensors
{
    safetensors '{"x":{"dtype":"BF16","shape":[40,2],"data_offsets":[0,160]},"b":{"dtype":"BF16","shape":[40,1],"data_offsets":[160,240]}}'
    numbers 80
    printf '%40s' '' | sed 's/./&?/g'
} >constant.safetensors
refused 3 'constant.safetensors: array "b" is the same in every row' -- fit-attention -i constant.safetensors
refused 4 'the fit needs' 'the limit is 2097152' -- fit-attention -i head.safetensors --memory 2M
refused 2 'no such route' -- fit-attention -i head.safetensors --factored --rank 2 --route dense
