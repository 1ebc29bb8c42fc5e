#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# finetune.sh PROGRAM: adapters learn, are saved in PEFT's form, resume to the same bits, merge into a model with the same
# loss; prompts are not predicted; epochs count steps; strides count each token once; what is wrong is one line.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 40000 >text
expect 0 train -f text --preset bytes-1m --layers 2 -c 64 -b 512 --max-steps 30 --eval-steps 0 -t 1 -o base --json
words 60000 | tr 'aeiou' 'eioua' >other
expect 0 eval -m base -f other -c 64 -t 1 --json
before=$(number loss out)

# ---- adapters ------------------------------------------------------------------------------------------------------

tune() { # FOLDER OPTION...
    tune_folder=$1
    shift
    expect 0 finetune -m base -f other -c 64 -b 512 --lora-rank 4 --lr 0.01 --save-steps 20 --eval-steps 0 -t 1 \
        -o "$tune_folder" --json "$@"
}
tune lora --max-steps 40
step=lora/step-000040
for file in adapter_config.json adapter_model.safetensors config.json tokenizer.json; do
    [ -s $step/$file ] || fail "no $file"
done
[ ! -e $step/model.safetensors ] || fail "the whole model was saved"
grep -q '"peft_type": "LORA"' $step/adapter_config.json || fail "$(cat $step/adapter_config.json)"
[ "$(wc -c <$step/optimizer.safetensors)" -lt "$(($(wc -c <base/step-000030/model.safetensors) / 4))" ] ||
    fail "moments of what is frozen were kept"
expect 0 eval -m lora -f other -c 64 -t 1 --json
after=$(number loss out)
awk -v a="$before" -v b="$after" 'BEGIN { exit !(b < a - 0.2) }' || fail "loss $before became $after"
pass "adapters: loss $before became $after"

expect 0 convert -m lora -o merged
{ [ -s merged/model.safetensors ] && [ ! -e merged/adapter_config.json ]; } || fail "convert did not merge"
expect 0 eval -m merged -f other -c 64 -t 1 --json
awk -v a="$after" -v b="$(number loss out)" 'BEGIN { d = a - b; exit !(d < 1e-5 && d > -1e-5) }' ||
    fail "merged: loss $(number loss out), was $after"
expect 0 generate -m lora -p 'the sea' -n 30 --temp 0 -t 1
cp out adapted_text
expect 0 generate -m merged -p 'the sea' -n 30 --temp 0 -t 1
cmp out adapted_text || fail "merged model continues otherwise"
expect 0 inspect lora --json
grep -q 'lora_A' out || fail "inspect shows no adapters"

# ---- again, and on -------------------------------------------------------------------------------------------------

same_adapters() {
    for same_file in adapter_model.safetensors optimizer.safetensors; do
        cmp "$1/$same_file" "$2/$same_file" || fail "$1 and $2 differ in $same_file"
    done
}
tune again --max-steps 40
same_adapters lora/step-000040 again/step-000040
rm -r again/step-000040
printf 'step-000020\n' >again/latest
expect 0 finetune --resume --output-dir again -t 1 --json
same_adapters lora/step-000040 again/step-000040
pass "resumed to the same bits"
refused 2 "--lora-rank: a resumed run keeps its model" -- finetune --resume --output-dir again --lora-rank 8
expect 0 finetune -m lora -f other -c 64 -b 512 --max-steps 2 --eval-steps 0 -t 1 -o onwards --json
[ -s onwards/step-000002/adapter_model.safetensors ] || fail "training of adapters does not go on"
refused 2 "--lora-rank: the model has adapters of rank 4" -- finetune -m lora -f other -c 64 --lora-rank 8 -o x
expect 0 finetune -m base -f other -c 64 -b 512 --lora-rank 0 --max-steps 2 --eval-steps 0 -t 1 -o whole --json
[ -s whole/step-000002/model.safetensors ] || fail "--lora-rank 0 did not train the model"
expect 0 finetune -m base -f other -c 64 -b 6000 --epochs 3 --held-out 0 --eval-steps 0 -t 1 -o epochs --json
[ "$(number steps out)" -eq 30 ] || fail "3 epochs of 60,000 bytes in rows of 6,000: $(number steps out) steps"

# ---- data ----------------------------------------------------------------------------------------------------------

for i in 1 2 3 4 5 6 7 8; do
    echo '{"prompt":"What is the answer to question '$i'?","completion":" yes"}'
done >pairs.jsonl
expect 0 eval -m base -f pairs.jsonl -c 64 -t 1 --json
[ "$(number tokens out)" -eq 32 ] || fail "$(number tokens out) tokens counted, wanted 8 times ' yes'"
expect 0 finetune -m base -f pairs.jsonl -c 64 -b 512 --max-steps 60 --held-out 0 --lr 0.003 --eval-steps 0 -t 1 -o pairs --json
# The head is frozen, and rows of so young an embedding are short: 1.28 is as low as their logits reach.
expect 0 eval -m pairs -f pairs.jsonl -c 64 -t 1 --json
awk -v b="$(number loss out)" 'BEGIN { exit !(b < 1.35) }' || fail "completions were not learnt: $(number loss out)"
pass "completions learnt to $(number loss out)"

head -c 1000 text >short
expect 0 eval -m base -f short -c 64 -t 1 --json
plain=$(number loss out)
[ "$(number tokens out)" -eq 999 ] || fail "$(number tokens out) tokens"
expect 0 eval -m base -f short -c 64 --stride 64 -t 1 --json
[ "$(number loss out)" = "$plain" ] || fail "a stride of the context is no stride"
expect 0 eval -m base -f short -c 64 --stride 16 -t 1 --json
[ "$(number tokens out)" -eq 999 ] || fail "$(number tokens out) tokens with a stride"
[ "$(number loss out)" != "$plain" ] || fail "the stride does nothing"
pass "stride 16: loss $(number loss out), without $plain"

# ---- refused -------------------------------------------------------------------------------------------------------

refused 2 "--model: expected a model to go on from" -- finetune -f other
refused 2 "--lora-rank: expected a model to add adapters to" -- train -f other -c 64 --lora-rank 4
refused 2 "unknown target 'nothing', there is: all-linear, " -- finetune -m base -f other -c 64 --lora-targets nothing -o x
refused 2 "--stride: 65, expected at most the context of 64" -- eval -m base -f other -c 64 --stride 65
refused 4 "need at least" -- finetune -m base -f other -c 64 --memory 8M -o x
sed 's/"r": 4/"r": 5/' $step/adapter_config.json >bad && cp -r $step wrong && mv bad wrong/adapter_config.json
refused 3 "adapter_model.safetensors" "shape" -- eval -m wrong -f other -c 64
mv base gone
refused 3 "base_model_name_or_path is '" "expected a folder that is there" -- eval -m lora -f other -c 64
[ ! -e x ] || fail "a refused run left a folder"
no_leftovers .
