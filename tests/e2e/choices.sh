#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# choices.sh PROGRAM: eval --task: a model that has learnt a text knows how it goes on, whatever the rows, threads and
# form of the list; and every list that is none is refused by file and line.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 60000 >text
expect 0 train -f text -c 64 -b 1024 --max-steps 40 --eval-steps 0 --eval-tokens 64 -o run -t 1

# items COUNT [SHIFT]: a word of the text, right, against letters, its length or longer; SHIFT names another as right
items() {
    awk -v count="$1" -v shift="${2-0}" 'BEGIN {
        n = split("the sea and wind of a ship that sails far from home under stars cold bright long night", word, " ")
        for (i = 0; i < count; i++) {
            right = i % 3
            printf "{\"prompt\":\"the %s and\",\"choices\":[", word[i % n + 1]
            for (c = 0; c < 3; c++)
                printf "%s\"%s\"", c ? "," : "", c == right ? " " word[(5 * i + 3) % n + 1] : c % 2 ? "ZQ;XJ" : "xqzkvw#pp"
            printf "],\"answer\":%d}\n", (right + shift) % 3
        }
    }'
}
items 60 >items.jsonl
expect 0 eval -m run --task items.jsonl -t 1 --json
cp out whole
[ "$(wc -l <out)" -eq 1 ] || fail "not one object: $(cat out)"
for key in accuracy accuracy_stderr accuracy_per_byte accuracy_per_byte_stderr chance items choices tokens row_tokens seconds; do
    grep -q "\"$key\":[0-9]" out || fail "eval --task has no number under $key"
done
awk -v a="$(number accuracy out)" -v b="$(number accuracy_per_byte out)" -v c="$(number chance out)" -v n="$(number items out)" \
    -v m="$(number choices out)" -v e="$(number accuracy_stderr out)" 'BEGIN {
    d = e - sqrt(a * (1 - a) / (n - 1))
    exit !(a >= 0.9 && b >= 0.9 && c > 0.33333 && c < 0.33334 && n == 60 && m == 180 && d * d < 1e-18)
}' || fail "a model that knows the text: $(cat out)"
if [ -z "${FUR_SANITIZED-}" ]; then
    awk -v peak="$(number peak_rss_bytes out)" -v plan="$(number planned_peak_bytes out)" 'BEGIN { exit !(peak <= plan) }' ||
        fail "the peak is above the plan: $(cat out)"
fi
pass "eval --task: $(cut -c 1-110 whole)"

items 60 1 >wrong.jsonl
expect 0 eval -m run --task wrong.jsonl -t 1 --json
awk -v a="$(number accuracy out)" -v b="$(number accuracy_per_byte out)" 'BEGIN { exit !(a <= 0.1 && b <= 0.1) }' ||
    fail "wrong answers are right: $(cat out)"

# same_as_whole: the same figures, however they were come by
same_as_whole() {
    for key in accuracy accuracy_stderr accuracy_per_byte accuracy_per_byte_stderr items; do
        [ "$(number $key out)" = "$(number $key whole)" ] || fail "$1: another $key"
    done
}
expect 0 eval -m run --task items.jsonl -t 2 --json
same_as_whole "2 threads"
"$program" eval -m run --task - -t 1 --json <items.jsonl >out 2>err || fail "a list from standard input"
same_as_whole "standard input"
if command -v zstd >/dev/null 2>&1; then
    zstd -q items.jsonl -o items.jsonl.zst
    expect 0 eval -m run --task items.jsonl.zst -t 1 --json
    same_as_whole "compressed"
fi
FURLONG_CTX_SIZE=32 "$program" eval -m run --task items.jsonl -t 1 --json >out 2>err || fail "FURLONG_CTX_SIZE"
same_as_whole "FURLONG_CTX_SIZE"
{ sed -n 1,5p items.jsonl && echo '{"prompt"' && echo && sed -n '6,$p' items.jsonl; } >damaged.jsonl
expect 0 eval -m run --task damaged.jsonl -t 1 --skip-bad --json
same_as_whole "--skip-bad"
[ "$(number skipped_lines out)" = 1 ] || fail "skipped in silence: $(cat out)"
says 'warning: 1 lines that are no items were skipped'
expect 0 eval -m run --task items.jsonl -t 1
grep -q '^60 items of 3 choices, chance 0.3333$' out || fail "head of the table: $(cat out)"
grep -qE 'log-likelihood per byte +[01]\.[0-9]{4}' out || fail "table: $(cat out)"
pass "eval --task: threads, standard input, compressed, skipped lines, table"

# ---- what is refused --------------------------------------------------------------------------------------------------

# task TEXT LINE: the list has a good line, a blank one, and that
task() {
    { sed -n 1p items.jsonl && echo && printf '%s\n' "$2"; } >bad.jsonl
    refused 3 "bad.jsonl:3: $1" -- eval -m run --task bad.jsonl -t 1
}
task 'line 1, column' '{"prompt":'
task 'expected a JSON object with "prompt", "choices" and "answer"' '"text"'
task '"prompt" is missing' '{"choices":["a","b"],"answer":0}'
task '"prompt" is empty' '{"prompt":"","choices":["a","b"],"answer":0}'
task '"choices" has 1 of them, expected two or more' '{"prompt":"x","choices":["a"],"answer":0}'
task 'choice 1 is empty' '{"prompt":"x","choices":["a",""],"answer":0}'
task '"answer" is 2, expected an integer from 0 to 1' '{"prompt":"x","choices":["a","b"],"answer":2}'
task '"answer" is missing' '{"prompt":"x","choices":["a","b"]}'
context=$(sed -n 's/.*"max_position_embeddings": *\([0-9]*\).*/\1/p' "run/$(cat run/latest)/config.json")
long=$(awk -v n="$context" 'BEGIN { for (i = 0; i < n; i++) printf "a" }')
task "prompt and choice take $((context + 1)) positions, the model has $context" \
    "{\"prompt\":\"$long\",\"choices\":[\"a\",\"bb\"],\"answer\":0}"
refused 3 'none.jsonl: cannot open' -- eval -m run --task none.jsonl
: >empty.jsonl
refused 3 'empty.jsonl: empty, expected a line for each item' -- eval -m run --task empty.jsonl
refused 2 '--model: expected the folder of a model' -- eval --task items.jsonl
refused 2 '--task and --file: expected one of them' -- eval -m run --task items.jsonl -f text
refused 2 '--task and --ctx-size: expected one of them' -- eval -m run --task items.jsonl -c 32
refused 2 '--task and --max-tokens: expected one of them' -- eval -m run --task items.jsonl --max-tokens 1K
refused 2 'or --task' -- eval -m run
refused 2 '--task is no option of train, only of others such as eval' -- train -f text --task items.jsonl
refused 4 'need at least' -- eval -m run --task items.jsonl -t 1 --memory 4M
