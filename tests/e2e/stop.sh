#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# stop.sh PROGRAM: SIGINT and SIGTERM in the middle of a step end the run with a checkpoint from which it goes on to the
# same bits; a second signal ends it at once; a second run on the folder of a running one is refused.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 40000 >text
# A step is long: many rows, so that a signal falls inside one.
settings="-f text -c 256 -b 1024 --grad-accum 6 --max-steps 6 --warmup-steps 2 --eval-tokens 512 -t 1"

# start FOLDER LINES [arguments]: in the background, as $run, until its metrics have that many lines
start() {
    start_folder=$1
    start_lines=$2
    shift 2
    # shellcheck disable=SC2086 # a list of words
    "$program" train $settings -o "$start_folder" "$@" >out.run 2>err.run </dev/null &
    run=$!
    wait_for 120 has_lines "$start_folder" "$start_lines"
}

has_lines() { [ -f "$1/metrics.jsonl" ] && [ "$(wc -l <"$1/metrics.jsonl")" -ge "$2" ]; }

# ended CODE: the run in the background ended with that code
ended() {
    ended_code=0
    wait "$run" || ended_code=$?
    cp err.run err
    [ "$ended_code" -eq "$1" ] || fail "code $ended_code, wanted $1"
}

# shellcheck disable=SC2086
expect 0 train $settings -o straight

for signal in INT:130 TERM:143; do
    folder=stopped-${signal%:*}
    start "$folder" 2
    # shellcheck disable=SC2086
    refused 1 "$folder: another run holds this folder (process $run)" -- train $settings -o "$folder" --resume latest
    sleep 0.1
    kill -"${signal%:*}" "$run"
    ended "${signal#*:}"
    at=$(cat "$folder/latest")
    [ "$at" != step-000006 ] || fail "the run ended before the signal"
    ends_with "furlong train: stopped after step"
    ends_with "saved $folder/$at"
    no_leftovers "$folder"
    expect 0 train --resume latest -o "$folder"
    says "resuming from $folder/$at"
    same straight/step-000006 "$folder/step-000006"
    pass "SIG${signal%:*}: code ${signal#*:} at $at, resumed to the same bits"
done

start twice 0 --grad-accum 100000
kill -INT "$run"
kill -INT "$run" 2>kill.log || true
ended 130
pass "a second SIGINT ends it"
