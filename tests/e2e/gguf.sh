#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# gguf.sh PROGRAM: models to GGUF and back, every verb on such a file, and what is wrong in one is code 3 and one line
# that names it, with nothing left behind. That llama.cpp reads them is in bench/show/gguf.sh.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 30000 >text
expect 0 train -f text --preset bytes-1m --layers 2 -c 64 -b 512 --max-steps 4 --eval-steps 0 -t 1 -o run --json

# ---- there and back ----------------------------------------------------------------------------------------------

expect 0 convert -m run -o f32.gguf
grep -q 'architecture llama' out || fail "no architecture in: $(cat out)"
if grep -q 'no vocabulary' out; then fail "the bytes are a vocabulary: $(cat out)"; fi
expect 0 convert -m f32.gguf -o back
cmp run/step-000004/model.safetensors back/model.safetensors || fail "weights are other ones after both ways"
expect 0 convert -m f32.gguf -o same.gguf
for type in bf16 q8_0; do
    expect 0 convert -m run -o $type.gguf --type $type --json
    grep -q '"vocabulary":true' out || fail "no vocabulary: $(cat out)"
done
[ "$(wc -c <q8_0.gguf)" -lt "$(wc -c <bf16.gguf)" ] || fail "q8_0 is no smaller than bf16"
[ "$(wc -c <bf16.gguf)" -lt "$(wc -c <f32.gguf)" ] || fail "bf16 is no smaller than f32"
no_leftovers .
refused 2 "f32.gguf exists already" -- convert -m run -o f32.gguf
refused 2 "--type: of a GGUF file" -- convert -m run -o folder --type bf16
refused 2 "--table-type: GGUF has no look-up tables" -- convert -m run -o x.gguf --table-type bf16
refused 2 "expected one of f32|bf16|q8_0, got 'q4_0'" -- convert -m run -o x.gguf --type q4_0
expect 0 train -f text --preset bytes-1m-lookup --layers 1 -c 64 -b 512 --max-steps 1 --eval-steps 0 -t 1 -o tables --json
refused 3 "GGUF has no architecture for a model that only furlong's own config.json can describe" -- \
    convert -m tables -o x.gguf
[ ! -e x.gguf ] || fail "a refused conversion left a file"

# ---- every verb --------------------------------------------------------------------------------------------------

expect 0 eval -m run -f text -c 64 -t 1 --json
exact=$(number loss out)
expect 0 eval -m f32.gguf -f text -c 64 -t 1 --json
[ "$(number loss out)" = "$exact" ] || fail "loss $(number loss out) of the GGUF file, $exact of the folder"
for type in bf16 q8_0; do
    expect 0 eval -m $type.gguf -f text -c 64 -t 1 --json
    awk -v a="$exact" -v b="$(number loss out)" 'BEGIN { d = a - b; exit !(d < 0.01 && d > -0.01) }' ||
        fail "$type: loss $(number loss out), was $exact"
    pass "$type: loss $(number loss out), of f32 $exact"
done
expect 0 generate -m run -p 'the sea' -n 40 --temp 0 -t 1
cp out folder_text
expect 0 generate -m f32.gguf -p 'the sea' -n 40 --temp 0 -t 1
cmp folder_text out || fail "another text from the GGUF file"
expect 0 plan -m f32.gguf -c 64 --json
expect 0 inspect f32.gguf
grep -q 'general.architecture' out || fail "inspect: $(cat out)"
grep -q 'blk.1.ffn_down.weight' out || fail "inspect: $(cat out)"
expect 0 inspect -m q8_0.gguf --json
grep -q '"dtype":"Q8_0"' out || fail "inspect --json: $(cat out)"
expect 0 audit -m f32.gguf -f text -c 512 -t 1 --json
expect 0 train -m f32.gguf -f text -c 64 -b 512 --max-steps 1 --eval-steps 0 -t 1 -o onwards --json
expect 0 eval -m onwards -f text -c 64 -t 1 --json

# ---- too large, and damaged ----------------------------------------------------------------------------------------

refused 4 f32.gguf "its weights need" -- generate -m f32.gguf -p x -n 4 --memory 1M -t 1
refused 4 f32.gguf "its weights need" -- eval -m f32.gguf -f text -c 64 --memory 1M -t 1
expect 4 plan -m f32.gguf -c 64 --memory 1M
# damaged BYTES OFFSET WORD...: those bytes there, for every verb that reads models
damaged() {
    cp f32.gguf broken.gguf
    printf '%b' "$1" | dd of=broken.gguf bs=1 seek="$2" conv=notrunc 2>dd.log
    shift 2
    refused 3 broken.gguf "$@" -- eval -m broken.gguf -f text -c 64 -t 1
    refused 3 broken.gguf "$@" -- generate -m broken.gguf -p x -t 1
    refused 3 broken.gguf "$@" -- inspect broken.gguf
    refused 3 broken.gguf "$@" -- plan -m broken.gguf -c 64
    refused 3 broken.gguf "$@" -- convert -m broken.gguf -o y
    refused 3 broken.gguf "$@" -- convert -m broken.gguf -o y.gguf
    refused 3 broken.gguf "$@" -- train -m broken.gguf -f text -c 64 -b 512 -o z -t 1
    for damaged_left in y y.gguf z; do [ ! -e $damaged_left ] || fail "$damaged_left was left"; done
}
damaged 'GGML' 0 'begins with bytes 47 47 4d 4c, expected "GGUF"'
damaged '\001' 4 'version 1, this version has 2 and 3'
damaged '\000\000\000\003' 4 'a big-endian file'
damaged '\377\377\377\377\377\377\377\377' 8 '18446744073709551615 tensors'
damaged '\377\377\377\377\377\377\377\377' 16 '18446744073709551615 values'
damaged '\377\377\377\377\377\377\377\377' 24 'byte 24: a key of 18446744073709551615 bytes'
head -c 100000 f32.gguf >broken.gguf
refused 3 broken.gguf 'of the data, which has' -- eval -m broken.gguf -f text -c 64 -t 1
: >broken.gguf
refused 3 broken.gguf 'the file of 0 bytes ends at byte 0' -- eval -m broken.gguf -f text -c 64 -t 1
refused 3 text 'expected a GGUF file, or a folder with config.json' -- eval -m text -f text -c 64 -t 1
