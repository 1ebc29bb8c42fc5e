#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# disk.sh PROGRAM: folders that cannot be written, folders in use, a disk that is full in the middle of a save: one line,
# a code, the last checkpoint as it was, nothing half-written.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 20000 >text
settings="-f text -c 32 -b 64 --warmup-steps 1 --eval-tokens 64 --eval-steps 0 -t 1"

# shellcheck disable=SC2086 # a list of words, here and below
train() { expect 0 train $settings "$@"; }

# ---- folders ------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2086
{
    refused 1 'text: cannot create the folder: Not a directory' -- train $settings -o text
    refused 1 'text: cannot create the folder: Not a directory' -- train $settings -o text/run
    mkdir closed
    chmod 555 closed
    if touch closed/try 2>touch.log; then # root writes everywhere, but not into /proc
        refused 1 '/proc/none' 'cannot create the folder' -- train $settings -o /proc/none
    else
        refused 1 'closed/run: cannot create the folder: Permission denied' -- train $settings -o closed/run
    fi
    chmod 755 closed
    train --max-steps 4 --save-steps 2 -o straight
    cp -r straight before
    refused 2 'straight already holds a run: use --resume latest, or another folder' -- train $settings -o straight
    diff -r -x .lock straight before || fail "the refused run changed the folder"
}

# ---- a full disk ----------------------------------------------------------------------------------------------------

# after_step_2 FOLDER: the straight run as it was then
after_step_2() {
    cp -r straight "$1"
    rm -rf "$1/step-000004"
    echo step-000002 >"$1/latest"
}

# full FOLDER WORD: the run that was to go on ended for want of room, and goes on when there is some
full() {
    ends_with "$2"
    ends_with "furlong train: $1/step-000004.tmp-"
    [ "$(cat "$1/latest")" = step-000002 ] || fail "latest is $(cat "$1/latest")"
    same straight/step-000002 "$1/step-000002"
    no_leftovers "$1"
    pass "1 $(tail -n 1 err)"
    cp -r "$1" "$1-room"
    mkdir -p "$1-room/step-000009.tmp-1/x" # as a killed process leaves one
    train --max-steps 4 --save-steps 2 -o "$1-room" --resume latest
    same straight/step-000004 "$1-room/step-000004"
    no_leftovers "$1-room"
    pass "with room again it ends with the same bits"
}

after_step_2 limited
expect_code=0
# shellcheck disable=SC2086
(
    ulimit -f 4000 # 2 MB a file; the weights need 3.5
    exec "$program" train $settings --max-steps 4 --save-steps 2 -o limited --resume latest
) >out 2>err </dev/null || expect_code=$?
[ "$expect_code" -eq 1 ] || fail "code $expect_code, wanted 1"
full limited 'model.safetensors: cannot write: File too large'

# ---- the store ------------------------------------------------------------------------------------------------------

# Everything that can be is on disk within a step. The bits are those of the run in memory.
train --max-steps 4 --save-steps 2 --store disk -o stored
same straight/step-000004 stored/step-000004
[ -z "$(find stored -name 'store-*')" ] || fail "the store's file has a name"
pass "the same bits with the store on disk"

# A file as large as the moments may be: the first step's layer inputs find no room. What a checkpoint needs is smaller.
after_step_2 unstored
expect_code=0
# shellcheck disable=SC2086
(
    ulimit -f 14200
    exec "$program" train $settings --max-steps 4 --save-steps 1 --store disk -o unstored --resume latest
) >out 2>err </dev/null || expect_code=$?
[ "$expect_code" -eq 1 ] || fail "code $expect_code, wanted 1"
ends_with 'cannot write: File too large'
ends_with 'furlong train: unstored/store-'
[ "$(cat unstored/latest)" = step-000002 ] || fail "latest is $(cat unstored/latest)"
same straight/step-000002 unstored/step-000002
[ ! -e unstored/step-000003 ] || fail "a step that failed was saved"
no_leftovers unstored
pass "1 $(tail -n 1 err)"
train --max-steps 4 --save-steps 2 -o unstored --resume latest --store disk --disk-dir .
same straight/step-000004 unstored/step-000004
pass "with room again it ends with the same bits"

# shellcheck disable=SC2086
{
    refused 1 'none: cannot use the folder for the store' -- train $settings --store disk --disk 1G --disk-dir none -o new
    refused 1 'the store takes up to' 'are free there' -- train $settings --store disk --disk 1G --disk-dir /proc -o new
    refused 4 'on disk, the limit there is 1 MiB' -- train $settings --store disk --disk 1M -o new
    refused 2 '--store disk with --disk 0' -- train $settings --store disk --disk 0 -o new
    [ ! -e new ] || fail "a refused run left its folder"
    mkdir shut
    chmod 555 shut
    if ! touch shut/try 2>touch.log; then
        refused 1 'shut: cannot make the store' -- train $settings --store disk --disk-dir shut -o new
    fi
    chmod 755 shut
}

# A start that fails when the folder is there already, for the store's sake, takes the folder away again.
cp -r straight/step-000004 torn
head -c 1000 straight/step-000004/model.safetensors >torn/model.safetensors
# shellcheck disable=SC2086
expect 3 train $settings -m torn --store disk -o left
[ ! -e left ] || fail "a start that failed left its folder: $(find left)"
for key in '"disk_dir": "."' '"inputs": "disk"' '"stored": "f32"'; do
    grep -q "$key" unstored/run.json || fail "run.json lacks $key"
done
grep -q '"stored": *"f32"' unstored/step-000004/trainer.json || fail "trainer.json does not name what is stored"

mkdir small
if mount -t tmpfs -o size=16m none small 2>mount.log; then
    trap 'cd /; umount "$scratch/small"; rm -rf "$scratch"' EXIT
    after_step_2 whole
    cp -r whole small/run
    # shellcheck disable=SC2086
    expect 1 train $settings --max-steps 4 --save-steps 2 -o small/run --resume latest
    cp -r small/run small-run
    sed -i 's,small/run,small-run,' err
    full small-run 'optimizer.safetensors: cannot write: No space left on device'
    umount small
    trap 'cd /; rm -rf "$scratch"' EXIT
else
    echo "not run: a file system of its own that is full (needs root)"
fi
