# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What every end-to-end test begins with: `. lib.sh`, the program as $1. Leaves the shell in a scratch folder that goes
# away with it. POSIX sh, awk, od, cmp, dd: what a build machine has.
set -eu
program=$1
scratch=$(mktemp -d)
trap 'cd /; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
cd "$scratch"
unset FURLONG_ISA FURLONG_MODEL FURLONG_PRESET FURLONG_CTX_SIZE FURLONG_BATCH_TOKENS FURLONG_OUTPUT_DIR FURLONG_MEMORY \
    FURLONG_DISK FURLONG_DISK_DIR FURLONG_THREADS FURLONG_SEED 2>/dev/null || true
# Tests share their processors: threads that wait must not hold them.
export OMP_WAIT_POLICY=passive LC_ALL=C

fail() {
    echo "FAILED: $*"
    if [ -s err ]; then sed 's/^/  stderr: /' err; fi
    exit 1
}

pass() { echo "ok: $*"; }

# expect CODE [furlong arguments]: runs it into the files out and err
expect() {
    expect_wanted=$1
    shift
    expect_code=0
    "$program" "$@" >out 2>err </dev/null || expect_code=$?
    [ "$expect_code" -eq "$expect_wanted" ] || fail "code $expect_code, wanted $expect_wanted: furlong $*"
}

# refused CODE WORD... -- [furlong arguments]: that code, nothing on stdout, and, warnings apart, one line on stderr that
# holds every WORD
refused() {
    refused_code=$1
    shift
    : >words
    while [ "$1" != -- ]; do
        printf '%s\n' "$1" >>words
        shift
    done
    shift
    expect "$refused_code" "$@"
    [ ! -s out ] || fail "something on stdout: furlong $*"
    grep -v '^warning: ' err >line || true
    [ "$(wc -l <line)" -eq 1 ] || fail "$(wc -l <line) lines on stderr, wanted 1: furlong $*"
    while read -r refused_word; do
        grep -qF -e "$refused_word" line || fail "the line does not say '$refused_word': furlong $*"
    done <words
    pass "$refused_code $(cat line)"
}

# says WORD: stderr of the last run holds it; ends_with WORD: its last line does
says() { grep -qF -e "$1" err || fail "stderr does not say '$1'"; }
ends_with() { tail -n 1 err | grep -qF -e "$1" || fail "the last line of stderr does not say '$1'"; }

# same FOLDER FOLDER: weights and moments to the bit
same() {
    for same_file in model.safetensors optimizer.safetensors; do
        cmp "$1/$same_file" "$2/$same_file" || fail "$1 and $2 differ in $same_file"
    done
}

# differ FOLDER FOLDER: for what must not be the same, so that `same` means something
differ() {
    if cmp -s "$1/model.safetensors" "$2/model.safetensors"; then fail "$1 and $2 have the same weights"; fi
}

# no_leftovers FOLDER: nothing half-written in it
no_leftovers() {
    no_leftovers_found=$(find "$1" -name '*.tmp*')
    [ -z "$no_leftovers_found" ] || fail "left behind: $no_leftovers_found"
}

# number KEY FILE: the last number under that key in a file of JSON
number() {
    sed -n "s/.*\"$1\": *\\(-\\{0,1\\}[0-9][0-9.eE+-]*\\).*/\\1/p" "$2" | tail -n 1
}

# words BYTES: text, always the same, that a model can learn something from
words() {
    awk -v bytes="$1" 'BEGIN {
        count = split("the sea and wind of a ship that sails far from home under stars cold bright long night", word, " ")
        x = 1
        for (written = 0; written < bytes;) {
            x = x * 16807 % 2147483647
            line = word[x % count + 1] (x % 7 ? " " : ".\n")
            line = substr(line, 1, bytes - written)
            written += length(line)
            printf "%s", line
        }
    }'
}

# documents LINES: as many lines of JSON with a text of 5 to 300 bytes
documents() {
    words $(($1 * 400)) | tr '\n' ' ' | awk -v lines="$1" '{
        x = 7
        at = 1
        for (i = 0; i < lines; i++) {
            x = x * 16807 % 2147483647
            n = x % 296 + 5
            printf "{\"text\":\"%s\"}\n", substr($0, at, n)
            at += n
        }
    }'
}

# wait_for SECONDS COMMAND...: until the command succeeds; fails after that long
wait_for() {
    wait_for_left=$(($1 * 20))
    shift
    until "$@"; do
        wait_for_left=$((wait_for_left - 1))
        [ "$wait_for_left" -gt 0 ] || fail "waited too long for: $*"
        sleep 0.05
    done
}

# npy DTYPE SHAPE: the header of a .npy file, version 1
npy() {
    npy_text="{'descr': '$1', 'fortran_order': False, 'shape': ($2), }"
    printf '\223NUMPY\001\000\166\000%-117s\n' "$npy_text"
}
