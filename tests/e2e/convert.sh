#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# convert.sh PROGRAM: look-up tables as bf16 and int8 in a model's files: what is printed and written, that every verb
# reads them and says what training begins from, and that what is wrong in them is code 3 and one line with the tensor.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 30000 >text
expect 0 train -f text --preset bytes-1m-lookup --layers 2 -c 64 -b 512 --max-steps 4 --eval-steps 0 -t 1 -o run --json

# ---- there ---------------------------------------------------------------------------------------------------------

expect 0 convert -m run -o f32
grep -q 'off by at most 0 %' out || fail "f32 is not what it was: $(cat out)"
cmp run/step-000004/model.safetensors f32/model.safetensors || fail "f32 differs"
for file in config.json tokenizer.json tokenizer_config.json; do
    cmp run/step-000004/$file f32/$file || fail "$file differs"
done
[ ! -e f32/optimizer.safetensors ] || fail "a model needs no optimizer"
for type in bf16 int8; do
    expect 0 convert -m run -o $type --table-type $type
    grep -q 'mlp.up_proj.table' out || fail "no table in: $(cat out)"
    rm -r $type
    expect 0 convert -m run -o $type --table-type $type --json
    sed 's/,"tables".*//' out >whole
    [ "$(number bytes_before whole)" -gt "$(number bytes_after whole)" ] || fail "no smaller: $(cat out)"
    grep -q "\"table_type\": \"$type\"" $type/config.json || fail "config.json does not say $type"
    awk -v error="$(number largest_error whole)" 'BEGIN { exit !(error > 0.001 && error < 0.004) }' ||
        fail "largest error: $(cat out)"
    pass "$type: $(number bytes_before whole) bytes become $(number bytes_after whole)"
done
no_leftovers .
refused 2 "bf16 exists already" -- convert -m run -o bf16 --table-type bf16
refused 2 "--model: expected the folder of a model" -- convert -o x
refused 2 "--output-dir: expected the folder to write" -- convert -m run
refused 2 "expected one of f32|bf16|int8, got 'int4'" -- convert -m run -o x --table-type int4
expect 0 train -f text --preset bytes-1m --layers 1 -c 64 -b 512 --max-steps 1 --eval-steps 0 -t 1 -o dense --json
refused 2 "dense/step-000001: the model has no look-up tables" -- convert -m dense -o x --table-type bf16
[ ! -e x ] || fail "a refused conversion left a folder"
expect 0 convert -m dense -o x
cmp dense/step-000001/model.safetensors x/model.safetensors || fail "a model without tables changed"

# ---- and read again ------------------------------------------------------------------------------------------------

expect 0 eval -m run -f text -c 64 -t 1 --json
exact=$(number loss out)
expect 0 generate -m run -p 'the sea' -n 40 --temp 0 -t 1
cp out exact_text
for type in f32 bf16 int8; do
    expect 0 eval -m $type -f text -c 64 -t 1 --json
    awk -v a="$exact" -v b="$(number loss out)" 'BEGIN { d = a - b; exit !(d < 0.01 && d > -0.01) }' ||
        fail "$type: loss $(number loss out), was $exact"
    expect 0 generate -m $type -p 'the sea' -n 40 --temp 0 -t 1
    [ $type != f32 ] || cmp out exact_text || fail "mapped tables of f32 gave another text"
    expect 0 inspect $type --json
    grep -q "\"table_type\":\"$type\"" out || fail "inspect does not say $type"
    expect 0 plan -m $type -c 64 --for generate --json
    mapped=$(tr '}' '\n' <out | sed -n 's/.*"tables, mapped from their file","bytes":\([0-9]*\).*/\1/p')
    pass "$type: the plan of generation maps $mapped bytes"
    [ -z "${last-}" ] || [ "$mapped" -lt "$last" ] || fail "$type: $mapped bytes mapped, $last before"
    last=$mapped
done
expect 4 generate -m f32 -p x -n 4 --memory 20M -t 1
ends_with "generating within 5 tokens needs"
expect 0 train -m int8 -f text -c 64 -b 512 --max-steps 2 --eval-steps 0 -t 1 -o onwards --json
says "int8: tables are stored as int8: training goes on from rounded values, in f32"
grep -q '"table_type": "f32"' onwards/step-000002/config.json || fail "a checkpoint of training is not f32"
expect 0 eval -m onwards -f text -c 64 -t 1 --json
expect 0 train -m f32 -f text -c 64 -b 512 --max-steps 1 --eval-steps 0 -t 1 -o from --json
if grep -q rounded err; then fail "f32 is not rounded"; fi

# ---- decoding is timed -----------------------------------------------------------------------------------------------

for type in f32 bf16 int8; do
    expect 0 bench decode -m $type --tokens 3 -t 1 --json
    for key in seconds tokens_per_second head_seconds head_share read_bytes planned_peak_bytes; do
        grep -q "\"$key\":[0-9]" out || fail "bench decode has no $key: $(cat out)"
    done
    grep -q "\"table_type\":\"$type\"" out || fail "bench decode does not say $type"
    expect 0 bench decode --preset bytes-1m-lookup --layers 1 --table-type $type -t 1 --cold
    grep -q "tables of $type, a token with cold weights" out || fail "bench decode: $(cat out)"
done
expect 0 bench decode --preset bytes-1m --layers 1 -t 1
grep -q 'head .* % of the time' out || fail "bench decode: $(cat out)"
refused 2 "--table-type: the model has no look-up tables" -- bench decode --preset bytes-1m --table-type int8
refused 2 "--table-type: the tables of a model in a folder" -- bench decode -m int8 --table-type int8
refused 2 "--cold: an option of bench projection or decode" -- bench step --cold
refused 4 "decoding needs" -- bench decode --preset gpt2-124m --memory 64M

# ---- damage --------------------------------------------------------------------------------------------------------

# where TENSOR FOLDER: the first byte of the tensor in the file, and its bytes
where() {
    where_header=$(od -An -tu8 -N8 "$2/model.safetensors" | tr -d ' ')
    where_range=$(dd if="$2/model.safetensors" bs=1 skip=8 count="$where_header" 2>dd.log | tr '}' '\n' |
        sed -n "s/.*\"$1\":.*\"data_offsets\":\[\([0-9]*\),\([0-9]*\)\].*/\1 \2/p")
    echo $((where_header + 8 + ${where_range% *}))
}

# damaged TYPE TENSOR BYTES OFFSET WORD...: those bytes there, for every verb that reads models
damaged() {
    rm -rf broken
    cp -r "$1" broken
    damaged_at=$(($(where "$2" "$1") + $4))
    printf '%b' "$3" | dd of=broken/model.safetensors bs=1 seek=$damaged_at conv=notrunc 2>dd.log
    shift 4
    refused 3 "$@" -- generate -m broken -p x -t 1
    refused 3 "$@" -- eval -m broken -f text -c 64 -t 1
    refused 3 "$@" -- inspect broken
    refused 3 "$@" -- convert -m broken -o y
    refused 3 "$@" -- train -m broken -f text -c 64 -b 512 -o z -t 1
    for damaged_left in y z; do [ ! -e $damaged_left ] || fail "$damaged_left was left"; done
}
table=model.layers.1.mlp.down_proj.table
damaged f32 $table '\000\000\300\177' 4000 $table 'element 1000 is nan'
damaged bf16 $table '\200\177' 2000 $table 'element 1000 is inf'
damaged int8 ${table}_scale '\000\000\000\000' 40 ${table}_scale 'element 10 is 0'
damaged int8 ${table}_scale '\000\000\200\277' 40 ${table}_scale 'element 10 is -1'
damaged int8 ${table}_scale '\000\000\300\177' 40 ${table}_scale 'element 10 is nan'
sed "s/int8/bf16/" int8/config.json >other
rm -rf broken
cp -r int8 broken
cp other broken/config.json
refused 3 table_scale 'is not part of this model' -- generate -m broken -p x
sed "s/bf16/f32/" bf16/config.json >broken/config.json
cp bf16/model.safetensors broken/model.safetensors
refused 3 'dtype BF16, expected F32' table -- generate -m broken -p x
