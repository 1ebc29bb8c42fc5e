# SPDX-License-Identifier: Apache-2.0
# the store on disk, keys of all heads but one group too: the same bits after 20 steps, twice, in memory, and after kill -9 and resume (target: all)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # lists of words
need $packages_build $packages_test
build_preset test
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missed=0
export OMP_WAIT_POLICY=passive # nothing is timed here
program=$ROOT/build/test/furlong
awk 'BEGIN { for (i = 0; i < 200000; i++) { x = (x * 16807 + 11) % 2147483647; printf "%c", 97 + x % 26 } }' >"$work/text"
options="-f $work/text --preset bytes-1m -c 512 -b 1K --warmup-steps 1 --eval-steps 0 --eval-tokens 2K --superblock 300"

# train OPTION...: one run of the program
train() {
    # shellcheck disable=SC2086 # a list of words
    "$program" train $options --max-steps 20 "$@" >"$work/log" 2>&1 </dev/null
}

# same NAME WHAT: weights and moments of a run against the first one's
same() {
    for same_file in model.safetensors optimizer.safetensors; do
        if ! cmp "$work/first/step-000020/$same_file" "$work/$1/step-000020/$same_file"; then
            echo "$2: OTHER BITS in $same_file"
            missed=1
            return 0
        fi
    done
    echo "$2: the same weights and moments to the bit after 20 steps"
}

train --store disk -o "$work/first" || die "the first run failed: $(tail -n 1 "$work/log")"
grep -q '"key_groups": *[1-9]' "$work/first/run.json" || die "heads did not come in groups"
train --store disk -o "$work/again" || die "the second run failed: $(tail -n 1 "$work/log")"
same again "store on disk, twice"
train --disk 0 -t 1 --keep nothing -o "$work/memory" || die "the run in memory failed: $(tail -n 1 "$work/log")"
same memory "store in memory, one thread, nothing kept"

# shellcheck disable=SC2086 # a list of words
"$program" train $options --max-steps 20 --save-steps 5 --store disk -o "$work/killed" >"$work/log" 2>&1 </dev/null &
child=$!
left=1200
until [ -d "$work/killed/step-000010" ] || [ $left -eq 0 ]; do
    left=$((left - 1))
    sleep 0.05
done
kill -9 $child 2>/dev/null || true
wait $child 2>/dev/null || true
[ -z "$(find "$work/killed" -name 'store-*')" ] || die "the store's file outlived its process"
echo "killed at $(cat "$work/killed/latest")"
"$program" train --resume latest -o "$work/killed" >"$work/log" 2>&1 </dev/null || die "$(tail -n 1 "$work/log")"
same killed "store on disk, kill -9 and resume"

# Every place of each, every number of groups of heads, over shapes and packed documents; and its faults.
build/test/tests/unit_store >"$work/log" 2>&1 || missed=1
grep -v '^\[' "$work/log" || true
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
