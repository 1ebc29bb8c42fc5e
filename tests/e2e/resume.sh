#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# resume.sh PROGRAM: a run that was cut and goes on ends with the bits of one that was not; so does the same run with
# other threads, with more or less kept for backward, and repeated from its run.json. Packed documents, rows that add up
# to a step, a context that grows on the way.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

documents 300 >docs.jsonl
settings="-f docs.jsonl --context-ramp 48,96@6 -b 192 --grad-accum 2 --max-steps 12 --warmup-steps 2 --save-steps 5
    --keep-checkpoints 0 --eval-steps 4 --eval-tokens 400 -s 3"

# train FOLDER [arguments]: the run of all these tests, in a folder
train() {
    train_folder=$1
    shift
    # shellcheck disable=SC2086 # a list of words
    expect 0 train $settings -o "$train_folder" "$@"
}

# losses FOLDER: what metrics.jsonl says of each step, times and memory apart
losses() { sed 's/"seconds".*"by_position"/"by_position"/; s/"seconds".*//' "$1/metrics.jsonl"; }

# cut FOLDER: the straight run as it was after step 5, when its metrics were ahead of its checkpoint
cut() {
    cp -r straight "$1"
    rm -rf "$1/step-000010" "$1/step-000012"
    echo step-000005 >"$1/latest"
    sed -n 1,9p straight/metrics.jsonl >"$1/metrics.jsonl"
    printf '{"step":9,"tok' >>"$1/metrics.jsonl"
}

train straight -t 1
for step in 05 10 12; do
    [ -d "straight/step-0000$step" ] || fail "--keep-checkpoints 0 did not keep step $step"
done
[ "$(grep -c '"grad_norm"' straight/metrics.jsonl)" -eq 12 ] || fail "metrics.jsonl has not one line for each step"

for threads in 1 2; do
    cut "cut$threads"
    train "cut$threads" -t "$threads" --resume latest
    says "resuming from cut$threads/step-000005"
    for step in 10 12; do same "straight/step-0000$step" "cut$threads/step-0000$step"; done
    losses straight >a
    losses "cut$threads" >b
    cmp a b || fail "the metrics of the resumed run are not those of the straight one"
    pass "cut after step 5, resumed with $threads threads"
done

cut path
expect 0 train --resume path/step-000005
same straight/step-000012 path/step-000012
pass "resumed from the path of a checkpoint, the settings from run.json"

train two -t 2
same straight/step-000012 two/step-000012
pass "two threads"
for keep in nothing all; do
    train "$keep" -t 1 --keep "$keep"
    same straight/step-000012 "$keep/step-000012"
    pass "--keep $keep"
done
expect 0 train --config straight/run.json -o again
same straight/step-000012 again/step-000012
pass "--config run.json"
train other -t 1 -s 4
differ straight/step-000012 other/step-000012
pass "another seed is another run"

# ---- a damaged newest checkpoint is passed over ------------------------------------------------------------------

# damage FOLDER FILE BYTE: sets one byte of step 12 to its complement
damage() {
    damage_old=$(od -An -tu1 -j "$3" -N 1 "$1/step-000012/$2" | tr -d ' ')
    # shellcheck disable=SC2059 # the octal number is the text
    printf "$(printf '\\%o' $((255 - damage_old)))" |
        dd of="$1/step-000012/$2" bs=1 seek="$3" conv=notrunc 2>dd.log
}

# passed_over FOLDER WORD: resuming says so, naming WORD, and ends with the same bits in the damaged one's place
passed_over() {
    expect 0 train --resume latest -o "$1" -t 1
    says "passing over a damaged checkpoint: $1/step-000012/$2"
    says "resuming from $1/step-000010"
    same straight/step-000012 "$1/step-000012"
    no_leftovers "$1"
    pass "damaged $2: $(grep -o 'passing over.*' err)"
}

cp -r straight short
dd if=straight/step-000012/model.safetensors of=short/step-000012/model.safetensors bs=1000 count=2000 2>dd.log
passed_over short model.safetensors
for file in model.safetensors optimizer.safetensors config.json trainer.json manifest.json; do
    cp -r straight "flip-$file"
    damage "flip-$file" "$file" 300
    passed_over "flip-$file" "$file"
done
for file in model.safetensors manifest.json trainer.json; do
    cp -r straight "no-$file"
    rm "no-$file/step-000012/$file"
    passed_over "no-$file" "$file"
done
cp -r straight every
for step in 05 10 12; do : >"every/step-0000$step/model.safetensors"; done
expect 3 train --resume latest -o every
ends_with "every: every checkpoint is damaged"
pass "every checkpoint damaged: $(tail -n 1 err)"

# ---- what a resumed run may not change -----------------------------------------------------------------------------

cut fixed
documents 299 >fewer.jsonl
refused 2 'the data is not what this run was trained on' -- train --resume latest -o fixed -f fewer.jsonl
refused 2 'seed 4' -- train --resume latest -o fixed -s 4
refused 2 'row of 384 tokens' -- train --resume latest -o fixed -b 384
for option in '--layers 3' '--preset bytes-4m' '--model fixed' '--attention exact' '--projection dense' '--window 8' \
    '--superblock 64' '--dropout 0.1'; do
    # shellcheck disable=SC2086
    refused 2 "${option%% *}: a resumed run keeps its model" -- train --resume latest -o fixed $option
done
refused 3 'another/run/run.json' -- train --resume latest -o another/run
mkdir none
refused 3 'none/run.json' -- train --resume latest -o none
