#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# demo.sh PROGRAM: the quick demo on a text that needs no network, what it leaves, and the three commands it ends with,
# run as they stand. The demo itself fails where measured memory and plan differ too much.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 300000 >text
expect 0 demo text --quick --seconds 5 --json
[ "$(wc -l <out)" -eq 1 ] || fail "more than one line on stdout"
for file in report.html metrics.jsonl latest train.txt held-out.txt next.sh; do
    [ -s "furlong-demo/$file" ] || fail "the demo left no $file"
done
ls furlong-demo/events.out.tfevents.* >/dev/null || fail "the demo left no TensorBoard events"
for word in "Memory of the step over" "Loss by position" "prefers-color-scheme" "<svg"; do
    grep -q "$word" furlong-demo/report.html || fail "the report lacks '$word'"
done
measured=$(sed -n 's/.*"long_steps":\[.*"peak_rss_bytes":\([0-9]*\),"planned_peak_bytes":\([0-9]*\).*/\1 \2/p' out)
[ -n "$measured" ] || fail "no long step: $(cat out)"
pass "the step over 8,192 bytes: measured and planned bytes $measured"

steps=$(sed -n 's/.*"steps":\([0-9]*\),.*/\1/p' out)
name=$(printf 'step-%06d' "$steps")
cp -r "furlong-demo/$name" kept
grep -vE '^ *(#|$)' furlong-demo/next.sh >next
[ "$(wc -l <next)" -eq 3 ] || fail "next.sh has $(wc -l <next) commands"
while read -r line <&3; do
    sh -c "$line" >out 2>err </dev/null || fail "code $? of: $line"
    pass "$line"
done 3<next

# the number of steps makes it the same again
expect 0 demo text --quick --max-steps "$steps"
[ -d furlong-demo-2 ] || fail "a second demo did not choose a folder of its own"
same kept "furlong-demo-2/$name"
pass "a second demo of as many steps has the same bits"
