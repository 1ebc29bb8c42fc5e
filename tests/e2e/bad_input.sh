#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bad_input.sh PROGRAM: data that is missing, empty, damaged or too short, settings that cannot be met, a loss that is
# not finite: the documented code, one line that says where, nothing left behind by what was refused.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 20000 >text
settings="--max-steps 2 --eval-tokens 64 -t 1"

# bad CODE WORD... -- [furlong arguments]: refused, and nothing left behind
bad() {
    ls -A >before
    # shellcheck disable=SC2086 # a list of words
    refused "$@" $settings
    ls -A >after
    cmp -s before after || fail "left behind: $(comm -13 before after | tr '\n' ' ')"
}
for own in before after out err words line; do : >$own; done

# ---- text -----------------------------------------------------------------------------------------------------------

bad 3 'none.txt: cannot open: No such file' -- train -f none.txt
: >empty.txt
bad 3 'empty.txt: empty' -- train -f empty.txt
mkdir folder
bad 3 'folder: no files in it' -- train -f folder
cp text closed.txt
chmod 000 closed.txt
if [ -r closed.txt ]; then # root reads everything
    echo "not run: a file without permission (is root)"
else
    bad 3 'closed.txt: cannot open: Permission denied' -- train -f closed.txt
fi
if [ -e /proc/self/mem ]; then bad 3 /proc/self/mem -- train -f /proc/self/mem; fi
head -c 100 text >short.txt
bad 3 'short.txt: shorter than one context: 90 tokens to train on, context 256' -- train -f short.txt -c 256
head -c 6 text >tiny.txt
bad 3 'tiny.txt: no document of two tokens or more' -- train -f tiny.txt

# ---- attention ------------------------------------------------------------------------------------------------------

bad 2 "--window: '0', expected 1 token or more (0 or more for almost-linear layers), or none" -- train -f text -c 64 --window 0
bad 2 "--window: '-3'" -- train -f text -c 64 --window -3
bad 2 "--window: layers '2-9', expected FIRST-LAST within 0-3" -- train -f text -c 64 --window 8@2-9
far='--attention almost-linear'
# shellcheck disable=SC2086 # lists of words
{
    bad 2 '--bound: no layer is almost-linear' -- train -f text -c 64 --bound 2
    bad 2 '--degree: expected' -- train -f text -c 64 $far --degree 7
    bad 2 '--bound: expected' -- train -f text -c 64 $far --bound 0
    bad 2 '--chunk: expected' -- train -f text -c 64 $far --chunk 8
    bad 2 'degree 4 at head width 32 makes 58905 features' 'above the limit of 1000 (--max-features)' -- \
        train -f text -c 64 $far --degree 4 --max-features 1000
    bad 2 'makes more than 1048576 features' -- train -f text -c 64 $far --degree 6
    bad 2 'almost-linear layers with ALiBi' -- train -f text -c 64 $far --position alibi
    bad 2 'almost-linear layers with dropout' -- train -f text -c 64 $far --attention-dropout 0.1
    bad 2 "--window: '-1', expected" -- train -f text -c 64 $far --window -1
    expect 0 plan -c 64 -t 1 $far --window 64
    grep -q -- '--window: 64 tokens are no window in a context of 64' err || fail 'a near field as large as the context was not said'
}
bad 2 '--rope-scaling:' 'expected linear:FACTOR' -- train -f text -c 64 --rope-scaling longrope:4
bad 2 'RoPE scaling factor 0.5, expected 1 to 1e6' -- train -f text -c 64 --rope-scaling yarn:0.5:32
bad 2 'RoPE scaling linear with ALiBi positions: expected RoPE' -- train -f text -c 64 --position alibi --rope-scaling linear:2
bad 2 '--dropout: expected a number from 0 to 0.999' -- train -f text -c 64 --dropout 1
bad 2 '--softcap: expected' -- train -f text -c 64 --softcap -1
expect 0 plan -c 64 -t 1 --window 64
grep -q -- '--window: 64 tokens are no window in a context of 64' err || fail 'a window as large as the context was not said'

# ---- JSONL ----------------------------------------------------------------------------------------------------------

# jsonl LINE3: three lines, the last one that
jsonl() { { documents 2 && printf '%s\n' "$1"; } >bad.jsonl; }
jsonl '{"text":'
bad 3 'bad.jsonl:3:' 'not valid JSON' -- train -f bad.jsonl
jsonl '{"text":5}'
bad 3 'bad.jsonl:3: "text"' -- train -f bad.jsonl
jsonl '{"txt":"a"}'
bad 3 'bad.jsonl:3: "text" is missing' -- train -f bad.jsonl
jsonl '"text"'
bad 3 'bad.jsonl:3:' -- train -f bad.jsonl
jsonl ''
documents 40 >>bad.jsonl
# shellcheck disable=SC2086
expect 0 train -f bad.jsonl -c 32 -b 64 $settings -o blank
jsonl '{"text":'
documents 40 >>bad.jsonl
# shellcheck disable=SC2086
expect 0 train -f bad.jsonl -c 32 -b 64 --skip-bad $settings -o skipped
grep -q '1 bad line' err || fail "skipped in silence"
pass "$(grep '1 bad line' err | head -n 1)"
rm -r blank skipped

# ---- arrays and compressed files --------------------------------------------------------------------------------------

ids() { # DTYPE-BYTES LAST-ID-AS-OCTAL-BYTES: 3,000 ids of 0 to 7, then that one
    npy "<i$1" '3001,'
    awk -v bytes="$1" 'BEGIN {
        for (i = 0; i < 3000; i++) {
            printf "\\0%o", (i * i + i / 3) % 8
            for (k = 1; k < bytes; k++) printf "\\00"
        }
    }' >ids.octal
    printf '%b' "$(cat ids.octal)"
    printf '%b' "$2"
}
ids 4 '\0007\0000\0000\0000' >good.npy
# shellcheck disable=SC2086
expect 0 train -f good.npy -c 32 -b 64 $settings -o ids
grep -q '3,001 tokens' err || fail "the ids were not all read"
rm -r ids
ids 4 '\0000\0001\0000\0000' >high.npy
bad 3 'high.npy' 'token ids up to 256' 'vocabulary is 256' -- train -f high.npy
ids 4 '\0377\0377\0377\0377' >negative.npy
bad 3 'negative.npy' '-1' -- train -f negative.npy
ids 8 '\0000\0000\0000\0000\0001\0000\0000\0000' >huge.npy
bad 3 'huge.npy' '4294967296' -- train -f huge.npy
head -c 5000 good.npy >cut.npy
bad 3 'cut.npy' -- train -f cut.npy
{ npy '|O' '8,' && head -c 64 text; } >object.npy
bad 3 'object.npy' -- train -f object.npy
{ npy '<i4' '1152921504606846976,4' && head -c 64 text; } >overflow.npy
bad 3 'overflow.npy' -- train -f overflow.npy
head -c 64 text >text.npy
bad 3 'text.npy' -- train -f text.npy
{ npy '<f4' '4,2' && printf '%b' '\0000\0000\0200\0077\0000\0000\0200\0077\0000\0000\0300\0177' && head -c 20 text; } >nan.npy
bad 3 'nan.npy: row 1, column 0 is nan' -- train -f nan.npy
bad 3 'nan.npy: real vectors, the files before hold tokens' -- train -f text -f nan.npy
if command -v zstd >/dev/null 2>&1; then
    zstd -q text -o text.zst
    head -c 2000 text.zst >cut.zst
    bad 3 'cut.zst' -- train -f cut.zst
fi
cp text text2.zst
bad 3 'text2.zst' -- train -f text2.zst

# ---- settings that cannot be met ------------------------------------------------------------------------------------

bad 2 "unknown option --ctx; did you mean --ctx-size?" -- train -f text --ctx 5
FURLONG_ISA=bogus
export FURLONG_ISA
bad 2 "FURLONG_ISA" "ref|avx2|avx512|avx512bf16|amx" "'bogus'" -- train -f text
FURLONG_ISA=ref
# shellcheck disable=SC2086
expect 0 train -f text -c 16 -b 16 $settings --eval-tokens 16 -o reference
grep -q '^warning: .*plain C reference.*slower' err || fail "the reference says nothing of being slow"
pass "$(grep '^warning: ' err)"
unset FURLONG_ISA
rm -r reference

# The largest context that fits is said; training holds some 0.7 MB more than a plan when it begins (its data, and what
# reading that took), so what is tried lies a tenth below and above. Without a disk, which takes far longer ones.
limits="60M 72M"
[ -z "${FUR_SANITIZED-}" ] || limits=
for limit in $limits; do
    bad 4 'the limit is' 'the largest context that fits is' -- train -f text -c 8192 -b 8192 --memory "$limit" --disk 0
    longest=$(sed 's/.*the largest context that fits is //; s/[^0-9].*//' line)
    expect 0 plan -c $((longest * 9 / 10)) --memory "$limit" --disk 0 -t 1
    expect 4 plan -c $((longest * 11 / 10)) --memory "$limit" --disk 0 -t 1
    expect 0 plan --longest --memory "$limit" --disk 0 --json -t 1
    said=$(number longest out)
    [ $(((said - longest) * (said - longest) * 100)) -le $((longest * longest)) ] ||
        fail "plan --longest says $said, the refusal $longest"
    # shellcheck disable=SC2086
    expect 0 train -f text -c $((longest * 9 / 10)) -b $((longest * 9 / 10)) --memory "$limit" --disk 0 $settings --max-steps 1 -o fits --json
    [ "$(number peak_rss_bytes out)" -le "$(number planned_peak_bytes out)" ] || fail "the peak is above the plan: $(cat out)"
    rm -r fits
done
# Rows that were not asked for shrink to fit.
if [ -z "${FUR_SANITIZED-}" ]; then
    # shellcheck disable=SC2086
    expect 0 train -f text -c 128 --memory 56M --disk 0 $settings --max-steps 1 -o narrow
    grep -qE '^context  128; rows of (128|256|512|1K|2K|4K) tokens' err || fail "the rows did not shrink"
    pass "$(grep '^context ' err)"
    rm -r narrow
fi
bad 4 'no context of this model fits it' -- train -f text -c 32 -b 64 --memory 16M

# ---- not finite -----------------------------------------------------------------------------------------------------

# Weights multiplied by 1 - 10 x 10 at each step pass the largest f32 after about 20.
absurd="--lr 10 --min-lr 10 --weight-decay 10 --warmup-steps 0 --max-steps 60 -c 32 -b 64 --eval-tokens 64 --eval-steps 0 -t 1"
# shellcheck disable=SC2086
expect 5 train -f text $absurd --save-steps 1 --keep-checkpoints 1 -o absurd
ends_with 'furlong train: step '
ends_with 'not finite'
tail -n 1 err | grep -qE 'layer [0-9]+|model\.[a-z_0-9.]*weight' || fail "no layer and no parameter named"
pass "5 $(tail -n 1 err)"
no_leftovers absurd
expect 0 inspect absurd
expect 5 train --resume latest -o absurd
says "resuming from absurd/$(cat absurd/latest)"
pass "the last good checkpoint, $(cat absurd/latest), is whole"
# shellcheck disable=SC2086
expect 5 train -f text $absurd --save-steps 5 -o absurd2
[ -f "absurd2/$(cat absurd2/latest)/model.safetensors" ] || fail "no checkpoint"
expect 0 inspect absurd2
