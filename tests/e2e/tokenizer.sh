#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tokenizer.sh PROGRAM: a tokenizer is learned, the same twice; text goes to ids and back; a model is trained with it,
# goes on, is evaluated and generates with it from its own folder; and what does not fit together is refused.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 60000 >text

# ---- learning ------------------------------------------------------------------------------------------------------

expect 0 tokenizer train -f text --vocab-size 300 -o learned --json
{ [ "$(number vocabulary out)" -eq 300 ] && [ "$(number merges out)" -eq 43 ]; } || fail "$(cat out)"
expect 0 tokenizer train -f text --vocab-size 300 -o again
cmp learned/tokenizer.json again/tokenizer.json || fail "two tokenizers from one text"
expect 0 tokenizer inspect --tokenizer learned --json
grep -q '"kind":"byte-level BPE"' out || fail "$(cat out)"
grep -q '"round_trip":true' out || fail "$(cat out)"
grep -q '"eos":299' out || fail "$(cat out)"
expect 0 tokenizer --tokenizer learned
grep -q '^byte-level BPE, 300 tokens, 43 merges, 1 of them added (1 special)$' out || fail "$(cat out)"
printf a >short
expect 0 tokenizer train -f short --vocab-size 300 -o tiny
says "no pair of tokens is left: fewer than the 300 asked for"
pass "learned: $(wc -c <learned/tokenizer.json) bytes of tokenizer.json"

# ---- there and back ------------------------------------------------------------------------------------------------

head -c 5000 /dev/urandom >noise
cat text noise >both
expect 0 tokenizer encode --tokenizer learned -f both -o ids.npy --json
[ "$(number tokens out)" -lt "$(number bytes out)" ] || fail "$(cat out)"
expect 0 tokenizer decode --tokenizer learned -i ids.npy -o back
cmp both back || fail "other bytes came back"
expect 0 tokenizer encode --tokenizer learned/tokenizer.json -p 'the sea<|endoftext|>'
cp out numbers
expect 0 tokenizer decode --tokenizer learned -f numbers
[ "$(cat out)" = 'the sea<|endoftext|>' ] || fail "back came '$(cat out)'"
echo 1 300 >high
refused 3 "token id 300, expected 0 to 299" -- tokenizer decode --tokenizer learned -f high
echo 1 two >high
refused 3 'high: "two' "expected a token id" -- tokenizer decode --tokenizer learned -f high
refused 2 "--output: expected the folder to write" -- tokenizer train -f text
refused 2 "--file: expected texts to learn from" -- tokenizer train -o x
refused 3 "nowhere/tokenizer.json: cannot open" -- tokenizer inspect --tokenizer nowhere
pass "encoded and decoded: any bytes"

# ---- a model with it -----------------------------------------------------------------------------------------------

expect 0 train -f text --preset bytes-1m --layers 1 --tokenizer learned -c 64 -b 512 --max-steps 4 --save-steps 2 \
    --eval-steps 0 -t 1 -o run --json
says "its vocabulary is 300 here"
grep -q '"vocab_size": 300' run/step-000004/config.json || fail "config.json: $(cat run/step-000004/config.json)"
for file in tokenizer.json tokenizer_config.json; do
    cmp learned/$file run/step-000004/$file || fail "$file of the checkpoint"
done
grep -q '"tokenizer"' run/run.json || fail "run.json does not name the tokenizer"
rm -r run/step-000004
expect 0 train --resume run/step-000002 -t 1 --json
cmp learned/tokenizer.json run/step-000004/tokenizer.json || fail "tokenizer.json after going on"
rm -r learned
expect 0 eval -m run -f text -c 64 -t 1 --json
awk -v loss="$(number loss out)" -v bits="$(number bits_per_byte out)" \
    'BEGIN { exit !(bits > 0.1 && bits < loss / log(2)) }' || fail "bits per byte: $(cat out)"
expect 0 generate -m run -p 'the sea' -n 20 --temp 0 -t 1 --json
grep -q '"text":' out || fail "$(cat out)"
expect 0 tokenizer encode -m run -p 'the sea<|endoftext|>'
cmp out numbers || fail "the model's folder holds another tokenizer: $(cat out)"
expect 0 plan --preset bytes-1m --tokenizer again -c 64 --json
expect 0 train -f text --preset bytes-1m --layers 1 -c 64 -b 512 --max-steps 1 --eval-steps 0 -t 1 -o plain --json
refused 3 "(again), but the model's vocabulary is 256" -- train -m plain -f text --tokenizer again -c 64 -b 512 -o x -t 1
refused 3 "vocabulary" -- generate -m plain -p x --tokenizer again -t 1
[ ! -e x ] || fail "a refused run left a folder"
no_leftovers .
