#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cli.sh PROGRAM: wrong command lines end with code 2 and one line that says what was expected; help, man pages and
# completion of every verb; stdout is data, with --json one object; a closed pipe and a full disk are failures.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

# ---- refusals -----------------------------------------------------------------------------------------------------
refused 2 "unknown verb 'trian'" "did you mean train?" -- trian
refused 2 "unknown option --presett" "did you mean --preset?" -- train --presett x
refused 2 "--temp is no option of train" "generate" -- train --temp 1
refused 2 "-c: expected a count such as 4096, 64K or 1M, got '64Q'" -- plan -c 64Q
refused 2 "--memory: expected a size such as 8G or 512M, got 'all'" -- train -f x --memory all
refused 2 "--lr: expected a number, got 'nan'" -- train -f x --lr nan
refused 2 "--lr: expected a number from 0 to 10, got '-1'" -- train -f x --lr -1
refused 2 "--preset: expected NAME after it" -- train --preset
refused 2 "unexpected word 'book.txt'" -- train book.txt
refused 2 "--file: expected a text" -- train
refused 2 "--model: expected the folder of a model" -- generate
refused 2 "--model: expected the folder of a model" -- eval -f x
refused 2 "expected one of peak|attention|projection|step|decode|longest, got 'speed'" -- bench speed
for option in --window --layers --disk --disk-dir --store-dtype; do
    case $option in --store-dtype) value=bf16 ;; *) value=5 ;; esac
    refused 2 "$option: an option of bench" "not of bench projection" -- bench projection $option $value
done
refused 2 "--store: an option of plan --for train, not --for eval" -- plan --for eval -c 1K --store disk
refused 2 "unknown preset 'huge'" "bytes-1m" -- plan --preset huge
refused 2 "--completion: expected bash, zsh or fish, got tcsh" -- --completion tcsh
refused 2 "unknown verb 'cook'" -- help cook
refused 3 "nowhere" -- train -f nowhere
refused 3 "nowhere: No such file or directory" -- generate -m nowhere -p x
refused 3 "expected a GGUF file, or a folder with config.json and model.safetensors, found another file" -- inspect "$here/cli.sh"
refused 3 "nowhere.json: No such file or directory" -- train --config nowhere.json
FURLONG_SEED=seven refused 2 "FURLONG_SEED: expected a whole number, got 'seven'" -- train -f x
expect 2
grep -q '^usage: furlong VERB' out || fail "no usage without a verb"

# ---- help, man pages, completion ----------------------------------------------------------------------------------
expect 0 help
verbs=$(sed -n '/^Verbs$/,/^More$/s/^  \([a-z]*\) .*/\1/p' out)
[ "$(echo "$verbs" | wc -l)" -eq 14 ] || fail "verbs of the help: $verbs"
for verb in $verbs; do
    expect 0 help "$verb"
    cp out help
    expect 0 "$verb" --help
    cmp -s out help || fail "help $verb and $verb --help differ"
    head -n 1 help | grep -q "^usage: furlong $verb" || fail "help $verb: $(head -n 1 help)"
    expect 0 --man "$verb"
    head -n 1 out | grep -q '^\.TH FURLONG' || fail "man page of $verb"
    if command -v man >/dev/null 2>&1; then
        man --warnings -l out >/dev/null 2>warnings || fail "man cannot read the page of $verb"
        [ ! -s warnings ] || fail "man page of $verb: $(head -n 1 warnings)"
    fi
done
pass "help and man pages of: $(echo "$verbs" | tr '\n' ' ')"
for shell in bash zsh fish; do
    expect 0 --completion $shell
    if command -v $shell >/dev/null 2>&1; then
        $shell -n out || fail "$shell cannot read its completion"
        pass "completion: $shell reads it"
    fi
done
if command -v bash >/dev/null 2>&1; then
    "$program" --completion bash >completion
    got=$(bash -c '. ./completion; COMP_WORDS=(furlong train --max-s); COMP_CWORD=2; _furlong; echo "${COMPREPLY[*]}"')
    [ "$got" = --max-steps ] || fail "completion of --max-s: '$got'"
    got=$(bash -c '. ./completion; COMP_WORDS=(furlong plan --preset gpt2); COMP_CWORD=3; _furlong; echo "${COMPREPLY[*]}"')
    case $got in *"gpt2-124m"*) ;; *) fail "completion of a preset: '$got'" ;; esac
    pass "bash completes options and presets"
fi

# ---- output -------------------------------------------------------------------------------------------------------
# one_object: stdout is one line that is one JSON object
one_object() {
    [ "$(wc -l <out)" -eq 1 ] || fail "$(wc -l <out) lines on stdout, wanted one object"
    grep -q '^{.*}$' out || fail "no object: $(cat out)"
}
expect 0 version --json
one_object
expect 0 plan --preset gpt2-124m -c 2K --memory 100G --json
one_object
for key in '"fits":true' '"peak_bytes":' '"disk_bytes":0' '"flops":' '"seconds":' '"items":\[{"name":"'; do
    grep -q "$key" out || fail "the plan lacks $key"
done
expect 4 plan -c 1M --memory 64M --json
one_object
grep -q '"fits":false' out || fail "a plan that does not fit says it fits"
says "the longest document that fits"
expect 0 plan --longest --memory 256M --json
[ "$(number longest out)" -gt 1000 ] || fail "longest: $(cat out)"
expect 0 doctor --json
grep -q '"gradient_ok":true' out || fail "doctor: $(cat out)"
expect 0 plan
if grep -q "$(printf '\033')" out err; then fail "escape sequences although it is no terminal"; fi
expect 0 plan -c 512 --position learned
grep -Eq ' (1,)?[0-9]{3},[0-9]{3} parameters' out || fail "more rows of learned positions than tokens: $(head -n 1 out)"
expect 0 plan --preset gpt2-124m -c 4K --position alibi
if grep -q 'uses RoPE' err; then fail "$(cat err)"; fi
grep -q 'ALiBi' out || fail "no ALiBi: $(head -n 1 out)"
expect 0 plan -c 2K --window 512@0-1 --sink-tokens 4 --sink-logits --softcap 30 --qk-norm --rope-scaling linear:2 \
    --dropout 0.1 --attention-dropout 0.2
grep -q ', window 512 in 2 of 4 layers, 4 sink tokens, sink logits, norms of q and k, RoPE linear x 2, softcap 30, dropout 0.1, attention dropout 0.2, ' out ||
    fail "what is on: $(head -n 1 out)"
expect 0 plan -c 2K --sink-tokens 4
says "--sink-tokens: nothing, since no layer has a window"
pass "plan, doctor, version"

words 40000 >text
expect 0 train -f text -c 128 --max-steps 4 --eval-steps 2 --json
one_object
folder=$(sed -n 's/.*"output_dir":"\([^"]*\)".*/\1/p' out)
[ "$folder" = runs/text-1 ] || fail "output folder: '$folder'"
for file in run.json metrics.jsonl latest report.html step-000004/config.json step-000004/model.safetensors; do
    [ -s "$folder/$file" ] || fail "the run left no $file"
done
ls "$folder"/events.out.tfevents.* >/dev/null || fail "the run left no TensorBoard events"
if grep -qE '<script|https?:' "$folder/report.html"; then fail "the report loads something"; fi
expect 0 train -f text -c 128 --max-steps 1 --dry-run --json
one_object
[ ! -e runs/text-2 ] || fail "a dry run made a folder"
expect 0 train --config runs/text-1/run.json --json
[ -s runs/text-2/step-000004/model.safetensors ] || fail "--config repeated nothing"
same runs/text-1/step-000004 runs/text-2/step-000004
pass "train: runs/text-1, and the same bits again from its run.json"

expect 0 generate -m runs/text-1 -p 'the sea' -n 20 --temp 0 --json
one_object
[ "$(number tokens out)" = 20 ] || fail "generate: $(cat out)"
cp out first
expect 0 generate -m runs/text-1/step-000004 -p 'the sea' -n 20 --temp 0 --json
[ "$(sed 's/tokens_per_second":[^,]*//g' first)" = "$(sed 's/tokens_per_second":[^,]*//g' out)" ] || fail "two texts"
printf 'the sea' | "$program" generate -m runs/text-1 -n 4 --temp 0 >out 2>err || fail "a prompt from standard input"
[ "$(head -c 7 out)" = 'the sea' ] || fail "the prompt is not printed"
expect 0 eval -m runs/text-1 -f text -c 128 --max-tokens 1K --json
one_object
for key in '"loss":' '"perplexity":' '"bits_per_byte":' '"tokens":' '"by_position":\[{"first":0'; do
    grep -q "$key" out || fail "eval lacks $key"
done
expect 0 inspect runs/text-1 --json
one_object
expect 0 bench longest --memory 256M --json
one_object
pass "generate, eval, inspect, bench"

# ---- a reader that has gone, a disk that is full ------------------------------------------------------------------
echo 0 >code
{ "$program" generate -m runs/text-1 -p 'the sea' -n 2000 2>err || echo $? >code; } | head -c 3 >/dev/null
code=$(cat code)
[ "$code" -eq 1 ] || fail "a closed pipe: code $code, wanted 1"
if [ -w /dev/full ]; then
    code=0
    "$program" plan >/dev/full 2>err || code=$?
    [ "$code" -eq 1 ] || fail "/dev/full: code $code, wanted 1"
    says "standard output:"
fi
pass "closed pipe, full disk"
