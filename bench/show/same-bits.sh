# SPDX-License-Identifier: Apache-2.0
# same bits for 1 and 2 threads, keep and recompute; block sizes and instruction sets within their bounds (target: all)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # lists of words
need $packages_build $packages_test
build_preset test
get_text bible
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missed=0
export OMP_WAIT_POLICY=passive # nothing is timed here

# weights NAME OPTION...: hash of the weights after five training steps of the program
weights() {
    weights_name=$1
    shift
    build/test/furlong train -f "$text_path" --preset bytes-1m -c 256 -b 512 --max-steps 5 --warmup-steps 1 \
        --eval-tokens 2K -s 7 -o "$work/$weights_name" "$@" >"$work/log" 2>&1 </dev/null || {
        tail -n 20 "$work/log" >&2
        die "furlong train $* failed"
    }
    sha256sum <"$work/$weights_name/step-000005/model.safetensors" | cut -d' ' -f1
}

for isa in ref avx2 avx512; do
    if ! build/test/furlong doctor --isa "$isa" >/dev/null 2>&1; then
        echo "$isa: not on this machine"
        continue
    fi
    first=$(weights "$isa-1" --isa "$isa" -t 1 --keep auto)
    for other in "2 auto" "2 nothing" "1 all" "2 all"; do
        # shellcheck disable=SC2086 # two words
        set -- $other
        if [ "$(weights "$isa-$1-$2" --isa "$isa" -t "$1" --keep "$2")" = "$first" ]; then
            echo "$isa: 5 steps, $1 threads, keep $2: the same weights to the bit"
        else
            echo "$isa: 5 steps, $1 threads, keep $2: OTHER WEIGHTS than 1 thread, keep auto"
            missed=1
        fi
    done
done

# Of loss, outputs and every gradient, over shapes, packed documents and odd sizes; its bounds are derived there.
build/test/tests/unit_model_bits >"$work/log" 2>&1 || missed=1
grep -vE '^\[' "$work/log" || true
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
