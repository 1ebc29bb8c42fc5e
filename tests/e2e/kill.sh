#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kill.sh PROGRAM [COUNT]: kill -9 at a random moment of a save, COUNT times (10): `--resume latest` loads every time.
# Every step saves, and the moments are drawn over the time of a save: strictly after the last checkpoint appeared.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

count=${2-10}
words 20000 >text
settings="-f text -c 16 -b 16 --max-steps 1000000 --save-steps 1 --eval-steps 0 --eval-tokens 16 --keep-checkpoints 2 -t 1"

# shellcheck disable=SC2086 # a list of words
"$program" train $settings -o run >out 2>err </dev/null &
run=$!

newer_than() { [ -f run/latest ] && [ "$(cat run/latest)" != "$1" ]; }
saving() { [ -n "$(find run -maxdepth 1 -name '*.tmp-*')" ]; }

torn=0
loaded=0
last=none
while [ "$loaded" -lt "$count" ]; do
    wait_for 60 newer_than "$last"
    # 0 to 40 ms from now, which is about a step and its save here; the clock's nanoseconds are the die
    sleep "0.0$(($(date +%N | sed 's/^0*//; s/^$/0/') / 1000 % 40 + 10))"
    kill -KILL "$run"
    wait "$run" 2>wait.log || true
    saving && torn=$((torn + 1))
    last=$(cat run/latest)
    # shellcheck disable=SC2086
    "$program" train $settings -o run --resume latest >out 2>err </dev/null &
    run=$!
    wait_for 60 newer_than "$last"
    kill -0 "$run" 2>kill.log || fail "the resumed run ended"
    grep -q '^resuming from run/step-' err || fail "the run did not resume"
    if grep -q 'damaged' err; then fail "a checkpoint was damaged"; fi
    loaded=$((loaded + 1))
done
kill -KILL "$run"
wait "$run" 2>wait.log || true
expect 0 train --resume latest -o run --max-steps "$(($(sed "s/step-0*//" run/latest) + 1))"
no_leftovers run
echo "killed $count times, $torn of them with a save in progress: --resume latest loaded $loaded times"
[ "$torn" -gt 0 ] || fail "no kill hit a save"
