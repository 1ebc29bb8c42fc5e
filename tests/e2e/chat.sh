#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# chat.sh PROGRAM: messages are written by the tokenizer's template, of which answers alone are learnt; a conversation
# goes on in one cache as if it were rendered anew; generate ends at stop strings; what has no template is refused.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 40000 >text
expect 0 tokenizer train -f text --vocab-size 300 -o learned
template='{% for m in messages %}<{{ m.role }}>{{ m.content }}<|endoftext|>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}'
sed "s/^{/{\\n  \"chat_template\": \"$template\",/" learned/tokenizer_config.json >with && mv with learned/tokenizer_config.json
expect 0 train -f text --tokenizer learned --preset bytes-1m --layers 2 -c 128 -b 512 --max-steps 20 --eval-steps 0 -t 1 -o run --json

# ---- answers are learnt --------------------------------------------------------------------------------------------

for i in 1 2 3 4 5 6 7 8; do
    echo '{"messages":[{"role":"user","content":"the sea '$i'"},{"role":"assistant","content":"cold night"},{"role":"user","content":"and"},{"role":"assistant","content":"stars"}]}'
done >talks.jsonl
expect 0 eval -m run -f talks.jsonl -c 128 -t 1 --json
before=$(number loss out)
counted=$(number tokens out)
expect 0 finetune -m run -f talks.jsonl -c 128 -b 512 --lora-rank 0 --max-steps 60 --held-out 0 --lr 0.003 --eval-steps 0 -t 1 -o tuned --json
expect 0 eval -m tuned -f talks.jsonl -c 128 -t 1 --json
awk -v a="$before" -v b="$(number loss out)" 'BEGIN { exit !(b < 0.2 && a > 1) }' || fail "loss $before became $(number loss out)"
pass "$counted tokens of answers: loss $before became $(number loss out)"
grep -q chat_template tuned/step-000060/tokenizer_config.json ||
    fail "the checkpoint has no chat template"
echo '{"messages":[{"role":"user","content":"alone"}]}' >alone.jsonl
refused 3 "alone.jsonl:1" "no message of the assistant" -- eval -m tuned -f alone.jsonl -c 128
echo '{"messages":[],"text":"x"}' >both.jsonl
refused 3 "both.jsonl:1" '"messages" beside "text"' -- eval -m tuned -f both.jsonl -c 128
expect 0 train -f text --preset bytes-1m --layers 1 -c 64 -b 512 --max-steps 1 --eval-steps 0 -t 1 -o bytes --json
refused 3 "talks.jsonl:1" "no chat template" -- eval -m bytes -f talks.jsonl -c 64

# ---- a conversation ------------------------------------------------------------------------------------------------

expect 0 chat -m tuned -p 'the sea 3' --temp 0 -n 20 -t 1 --json
grep -q '"content":"cold night"' out || fail "$(cat out)"
grep -q '"ended":true' out || fail "the answer did not end: $(cat out)"
printf 'the sea 3\nand\n\n/clear\nthe sea 5\n' | "$program" chat -m tuned --temp 0 -n 20 -t 1 >out 2>err || fail "a conversation"
printf 'cold night\nstars\ncold night\n' | cmp - out || fail "the conversation: $(cat out)"
pass "a conversation: $(tr '\n' '/' <out)"
refused 3 "bytes: its tokenizer has no chat template" -- chat -m bytes -p hello
refused 2 "--json: expected one message" -- chat -m tuned --json
refused 4 "the conversation has" "the context is full at 8" -- chat -m tuned -c 8 -p 'the sea and the wind of a ship that sails far' -t 1 --json
refused 2 "--model: expected the folder of a model" -- chat -p x

# ---- where generation ends -----------------------------------------------------------------------------------------

expect 0 generate -m run -p 'the sea' -n 30 --temp 1 --top-k 20 --seed 3 -t 1 --json
whole=$(sed 's/.*"text":"\(.*\)","prompt_tokens.*/\1/' out)
stop=$(printf '%s' "$whole" | cut -c9-12)
expect 0 generate -m run -p 'the sea' -n 30 --temp 1 --top-k 20 --seed 3 -t 1 --json -r "$stop" --stop 'never seen'
part=$(sed 's/.*"text":"\(.*\)","prompt_tokens.*/\1/' out)
[ "$part" = "${whole%%"$stop"*}" ] || fail "'$whole' up to '$stop' became '$part'"
pass "'$stop' ends a text"
refused 2 "--reverse-prompt: expected a text" -- generate -m run -p x -r ''
expect 0 generate -m run -p 'the sea' -n 30 --temp 1 --top-k 20 --seed 3 --repeat-penalty 1.5 -t 1 --json
[ "$(sed 's/.*"text":"\(.*\)","prompt_tokens.*/\1/' out)" != "$whole" ] || fail "a repeat penalty changed nothing"
