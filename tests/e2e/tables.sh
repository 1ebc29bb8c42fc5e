#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tables.sh PROGRAM: models with look-up tables: the bits of a cut and resumed run, of other threads and of whatever is
# kept, with both optimizers of tables; what is refused.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

documents 200 >docs.jsonl
settings="-f docs.jsonl --layers 1 -c 96 -b 192 --max-steps 8 --warmup-steps 2 --save-steps 3 --keep-checkpoints 0
    --eval-steps 0 --eval-tokens 400 -s 3"

train() {
    train_folder=$1
    shift
    # shellcheck disable=SC2086 # a list of words
    expect 0 train $settings -o "$train_folder" "$@"
}

for form in "hybrid lazy" "lookup lazy" "lookup adam"; do
    preset=bytes-1m-${form% *}
    optimizer=${form#* }
    name="${form% *}-$optimizer"
    train "$name" -t 1 --preset "$preset" --table-optimizer "$optimizer"
    cp -r "$name" "$name-cut"
    rm -rf "$name-cut/step-000006" "$name-cut/step-000008"
    echo step-000003 >"$name-cut/latest"
    expect 0 train --resume latest -o "$name-cut" -t 2
    says "resuming from $name-cut/step-000003"
    for step in 6 8; do same "$name/step-00000$step" "$name-cut/step-00000$step"; done
    train "$name-two" -t 2 --keep nothing --preset "$preset" --table-optimizer "$optimizer"
    same "$name/step-000008" "$name-two/step-000008"
    pass "$preset, $optimizer: cut after step 3 and resumed with two threads; two threads, nothing kept"
done
expect 0 train --config lookup-adam/run.json -o again
same lookup-adam/step-000008 again/step-000008
pass "--config run.json"

train temperature --preset bytes-1m-lookup --lookup-temperature 1.5 --lookup-rows 2 --table-lr 3
expect 0 eval -m temperature -f docs.jsonl -c 96 --json
expect 0 generate -m temperature -p "the" -n 8
expect 0 inspect -m temperature --json
grep -q '"lookup_two_rows": *true' out || fail "inspect does not say that two rows are read"
for rows in 1 2; do
    train "rows-$rows" --preset bytes-1m-hybrid --lookup-rows $rows
done
same rows-2/step-000008 hybrid-lazy/step-000008
differ rows-1/step-000008 rows-2/step-000008
train mixed --preset bytes-1m-almost-linear --layers 2 --projection ffn=lookup --lookup-bits 4
expect 0 inspect -m mixed --json
grep -q '"projection_ffn": *"lookup"' out || fail "inspect does not say what the feedforward is"
pass "a temperature with two rows; almost-linear with a look-up feedforward"

expect 2 train -f docs.jsonl --preset bytes-1m-hybrid -c 96 -b 192 --grad-accum 2 -o no
says "takes one row a step: use -b 384 and --grad-accum 1"
expect 2 train -f docs.jsonl --preset bytes-1m-lookup --lookup-bits 7 -o no
says "look-up maps of 7 bits: they do not divide the width of 128"
expect 2 train -f docs.jsonl --preset bytes-1m-hybrid --projection dense -o no
says "this feedforward has tables and no activation"
expect 2 train --resume latest -o hybrid-lazy --table-optimizer adam --max-steps 9
says "tables updated by adam: the checkpoint was made with lazy"
for option in "bits 4" "rows 1"; do
    # shellcheck disable=SC2086 # two words
    expect 2 plan --model hybrid-lazy --lookup-$option -c 64
    says "was made without it"
done
expect 0 plan --model hybrid-lazy --lookup-rows 2 -c 64
expect 4 train -f docs.jsonl --preset gpt2-124m-lookup -c 96 -b 192 --memory 2G -o no
says "need at least"
[ ! -e no ] || fail "a refused run left a folder"
pass "what is refused"
