#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh PROGRAM: what a run writes and what the other verbs make of it: the keys of metrics.jsonl, the memory it was
# held to, evaluation by position, generation that is the same each time; and a run over real vectors.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 60000 >text

# ---- metrics --------------------------------------------------------------------------------------------------------

expect 0 train -f text --context-ramp 64,2048@8 -b 2048 --max-steps 10 --eval-steps 5 -o run --json
for key in step tokens loss lr grad_norm seconds peak_rss_bytes planned_peak_bytes arena_peak_bytes planned_arena_bytes; do
    [ "$(grep '"grad_norm"' run/metrics.jsonl | grep -c "\"$key\":[0-9]")" -eq 10 ] ||
        fail "not every line of a step in metrics.jsonl has a number under $key"
done
[ "$(grep -c '"eval_loss":[0-9]' run/metrics.jsonl)" -eq 2 ] || fail "metrics.jsonl: not two evaluations"
awk -F '[:,]' -v sanitized="${FUR_SANITIZED-}" '
    /"grad_norm"/ {
        for (i = 1; i < NF; i++) value[$i] = $(i + 1)
        if (value["\"arena_peak_bytes\""] + 0 != value["\"planned_arena_bytes\""] + 0) bad = "the arena peak is not the plan"
        if (sanitized == "" && value["\"peak_rss_bytes\""] + 0 > value["\"planned_peak_bytes\""] + 0) bad = "the peak is above the plan"
    }
    END { if (bad != "") { print bad; exit 1 } }' run/metrics.jsonl || fail "metrics.jsonl"
[ "$(number tokens out)" -gt 10000 ] || fail "tokens: $(cat out)"
pass "metrics.jsonl has its keys; memory as planned"

# ---- evaluation -----------------------------------------------------------------------------------------------------

expect 0 eval -m run -f text -c 2048 --max-tokens 8K --json
for key in loss perplexity bits_per_byte tokens; do
    grep -q "\"$key\":[0-9]" out || fail "eval has no number under $key"
done
sed 's/.*"by_position":\[//; s/\].*//; s/},{/}\n{/g' out >positions
[ "$(wc -l <positions)" -eq 2 ] || fail "by_position: $(cat positions)"
grep -q '"first":1024,' positions || fail "by_position: $(cat positions)"
# The loss of all is the mean of the positions' losses, weighted by their tokens; bits per byte are nats / ln 2.
sed -n 's/.*"first":\([0-9]*\),"tokens":\([0-9]*\),"loss":\([0-9.e-]*\).*/\2 \3/p' positions >sums
awk -v loss="$(sed 's/^{"loss":\([^,]*\).*/\1/' out)" -v bits="$(sed 's/.*"bits_per_byte":\([^,]*\).*/\1/' out)" \
    -v tokens="$(sed 's/.*"bits_per_byte":[^,]*,"tokens":\([^,]*\).*/\1/' out)" '
    { sum += $1 * $2; count += $1 }
    END {
        d = sum / count - loss
        e = loss / log(2) - bits
        exit !(count == tokens && d * d < 1e-12 && e * e < 1e-12 && NR == 2)
    }' sums || fail "by_position does not add up: $(cat out)"
cp out whole
expect 0 eval -m run -f text -c 2048 --max-tokens 8K --json -t 1
for key in loss tokens; do
    [ "$(sed "s/.*\"$key\":\([^,]*\).*/\1/" out)" = "$(sed "s/.*\"$key\":\([^,]*\).*/\1/" whole)" ] || fail "1 thread, other $key"
done
pass "eval: $(cut -c 1-100 whole)"

# ---- generation -----------------------------------------------------------------------------------------------------

expect 0 generate -m run -p 'the sea and ' -n 40 --temp 0 -t 1
cp out greedy
expect 0 generate -m run -p 'the sea and ' -n 40 --temp 0 -t 2 -s 9
cmp out greedy || fail "greedy generation differs from itself"
expect 0 generate -m run -p 'the sea and ' -n 40 -s 5
cp out five
expect 0 generate -m run -p 'the sea and ' -n 40 -s 5
cmp out five || fail "seed 5 differs from itself"
expect 0 generate -m run -p 'the sea and ' -n 40 -s 6
if cmp -s out five; then fail "seeds 5 and 6 say the same"; fi
pass "generate: $(tr '\n' ' ' <greedy)"
step=$(cat run/latest)
sed 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 32/' "run/$step/config.json" >config
cp config "run/$step/config.json"
refused 2 'prompt of 34' -- generate -m run -p 'longer than the context of a model' -n 1 --json
refused 2 'prompt of 32 and 1 new tokens, expected 1 to 32' -- generate -m run -p 'as long as the context of the mo' -n 1 --json
expect 0 generate -m run -p 'one less than the context of it' -n 1 --json
refused 2 '--ctx-size: the model has positions up to 32, got 33' -- eval -m run -f text -c 33
refused 2 '--ctx-size: the model has positions up to 32, got 33' -- plan -m run -c 33 --rope-scaling none
expect 0 plan -m run -c 33 --rope-scaling linear:2

# ---- almost-linear layers ---------------------------------------------------------------------------------------------

far="--attention almost-linear,exact@3 --window 8@0-1,none@2 --chunk 16 --degree 3 --bound 1.5 --far-bias"
# shellcheck disable=SC2086 # a list of words
expect 0 train -f text -c 64 -b 256 $far --max-steps 4 --eval-tokens 128 -o far -t 1
says 'almost-linear in 3 of 4 layers (degree 3, bound 1.5'
expect 0 train --resume --output-dir far --max-steps 6 -t 1
expect 0 train -m far -f text -c 64 -b 256 --max-steps 2 --eval-tokens 128 -o tuned -t 1
says 'almost-linear in 3 of 4 layers (degree 3, bound 1.5'
expect 0 plan -m far -c 64 -t 1
says_plan=$(cat out err)
case $says_plan in *'almost-linear in 3 of 4'*) ;; *) fail 'plan -m lost the kinds of layers' ;; esac
expect 0 train --config far/run.json -o again -t 1 --max-steps 4
same far/step-000004 again/step-000004
expect 0 eval -m far -f text -c 64 --max-tokens 512 -t 1
expect 0 generate -m far -p 'some words' -n 40 --temp 0 -t 1
refused 2 '--attention: the model in far has other kinds of layers' -- train -m far -f text --attention exact -c 64 -o none
refused 2 '--degree: the model in far was made without it' -- train -m far -f text --degree 2 -c 64 -o none
refused 2 '--chunk: a resumed run keeps its model' -- train --resume --output-dir far --chunk 32 --max-steps 8
config=$(find far -name config.json | sort | tail -n 1)
step=${config%/config.json}
cp -r "$step" other && sed 's/"far_bound": *1.5/"far_bound": 1.25/' "$config" >other/config.json
refused 3 'were fitted for a bound of 1.5, config.json says 1.25' -- eval -m other -f text -c 64
sed '/"far_degree"/d' "$config" >other/config.json
refused 3 'far_degree' -- eval -m other -f text -c 64
pass 'almost-linear layers: train, resume, start from, repeat, plan, eval, generate'

grep -q '"head_errors":\[{"layer":0,"head":0,"sampled":64,"o":\[' far/metrics.jsonl || fail 'no errors of heads in metrics.jsonl'
grep -q 'The error of attention' far/report.html || fail 'no errors of heads in the report'
expect 0 audit -m far -f text -c 64 -t 1
grep -q 'dq' out || fail 'audit of almost-linear layers has no gradients'
expect 0 train -f text -c 256 --max-steps 2 --eval-tokens 256 -o plain -t 1
expect 0 audit -m plain -f text -c 256 --max-error 1e-9 --chunk 16 -o nothing -t 1
grep -q 'all 16 heads stay exact' out || fail 'audit for 1e-9 found heads'
[ ! -e nothing ] || fail 'audit saved a model that has not changed'
expect 0 audit -m plain -f text -c 256 --max-error 10 --chunk 16 -o mixed -t 1 --json
grep -q '"exact_heads": *0' out || fail 'audit for 10 left heads exact'
expect 0 eval -m mixed -f text -c 256 --max-tokens 1024 -t 1
expect 0 generate -m mixed -p 'some words' -n 40 --temp 0 -t 1
expect 0 train -m mixed -f text -c 64 -b 256 --max-steps 3 --max-error 1e-7 --eval-tokens 128 -o limited -t 1
says 'its far keys are seen one by one from here on'
expect 0 train --resume --output-dir limited --max-steps 5 -t 1
refused 2 '--output-dir: mixed exists already' -- audit -m plain -f text -o mixed
refused 2 '--degree: the model has almost-linear layers, which are measured as they are' -- audit -m far -f text --degree 3
refused 2 'above the limit of 100 (--max-features)' -- audit -m plain -f text -c 64 --max-features 100
refused 2 'of 256 tokens none is far from another' -- audit -m plain -f text -c 256
refused 2 '--max-error: the model has almost-linear layers' -- audit -m far -f text --max-error 0.1
refused 2 '--max-error: no layer is almost-linear' -- train -f text -c 64 --max-error 0.01 -o none
expect 0 train -f text -c 64 --window 16 --max-steps 1 --eval-tokens 64 -o windowed -t 1
refused 2 'audit: every layer has a window' -- audit -m windowed -f text -c 64
cp -r mixed unlimited && sed 's/"far_max_error": *10[.0]*/"far_max_error": 0/' mixed/config.json >unlimited/config.json
refused 3 'without a bound on their logits: expected --max-error' -- eval -m unlimited -f text -c 64
pass 'audit: measures, saves what can be almost-linear, keeps to a limit in training'

# ---- real vectors -----------------------------------------------------------------------------------------------------

# waves COUNT: the f32 bytes of (sin, cos / 2) of a slow wave, as octal escapes for printf
waves() {
    awk -v count="$1" '
        function f32(x,    sign, exponent, fraction) {
            sign = x < 0
            if (sign) x = -x
            if (x < 1e-30) return "\\00\\00\\00\\00"
            exponent = 127
            while (x >= 2) { x /= 2; exponent++ }
            while (x < 1) { x *= 2; exponent-- }
            fraction = int((x - 1) * 8388608)
            return sprintf("\\0%o\\0%o\\0%o\\0%o", fraction % 256, int(fraction / 256) % 256,
                           exponent % 2 * 128 + int(fraction / 65536), sign * 128 + int(exponent / 2))
        }
        BEGIN { for (i = 0; i < count; i++) printf "%s%s", f32(sin(i / 5)), f32(cos(i / 5) / 2) }'
}
{ npy '<f4' '2000, 2' && printf '%b' "$(waves 2000)"; } >waves.npy
expect 0 train -f waves.npy -c 64 -b 512 --max-steps 40 --eval-tokens 128 -o waves -t 1 --json
cp out result
first=$(sed -n '1s/.*"loss":\([^,]*\).*/\1/p' waves/metrics.jsonl)
loss=$(sed 's/.*"eval_loss":\([^,]*\).*/\1/' result)
# The wave's own variance is (1/2 + 1/8) / 2 = 0.31: what a model errs by that says the mean each time.
awk -v first="$first" -v loss="$loss" 'BEGIN { exit !(first > 0.2 && loss < 0.05) }' ||
    fail "mean squared error from $first to $loss, wanted below 0.05"
grep -q '"bits_per_byte":null' result || fail "vectors have no bytes: $(cat result)"
expect 0 eval -m waves -f waves.npy -c 64 --json
grep -q '"bits_per_byte":null' out || fail "vectors have no bytes: $(cat out)"
pass "real vectors: mean squared error from $first to $loss"
refused 3 text 'features' -- eval -m waves -f text -c 64
refused 3 waves.npy 'features' -- eval -m run -f waves.npy -c 16
{ npy '<f4' '500, 3' && printf '%b' "$(waves 750)"; } >three.npy
refused 3 three.npy '3 features' -- eval -m waves -f three.npy -c 64
refused 3 three.npy '3 features' -- train --resume latest -o waves -f three.npy --max-steps 50
refused 3 'waves: the model reads real vectors' -- generate -m waves -p x
refused 3 'waves: the model reads real vectors' -- eval -m waves --task items.jsonl
