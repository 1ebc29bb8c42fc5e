# SPDX-License-Identifier: Apache-2.0
# exact and almost-linear attention x dense and look-up maps, and a model of all: one command trains each (target: the loss falls), gradients against the formulas in double
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
build_release
get_text shakespeare
build_preset test
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

missed=0
run() { # NAME OPTION...
    name=$1
    shift
    build/release/furlong train -f "$text_path" --preset bytes-1m -c 512 -b 4096 --max-steps 60 --warmup-steps 20 --eval-steps 0 \
        --eval-tokens 64K --save-steps 0 --memory 2G -o "$scratch/$name" "$@" 2>/dev/null >/dev/null
    sed -n 's/.*"step": *\([0-9]*\),.*"loss": *\([0-9.]*\).*/\1 \2/p' "$scratch/$name/metrics.jsonl" | awk -v name="$name" '
        NR == 1 { first = $2 } { last = $2 }
        END { printf "%-34s loss %.3f to %.3f in 60 steps\n", name, first, last; exit !(last < first - 1) }' || missed=1
}

run "exact, dense"
run "exact, look-up" --projection lookup
run "almost-linear, dense" --attention almost-linear
run "almost-linear, look-up" --attention almost-linear --projection lookup
run "mixed attention, look-up feedforward" --attention almost-linear@0-2,exact@3 --projection ffn=lookup
ctest --test-dir build/test -R 'unit_model_gradient$|unit_oracle$' --output-on-failure || missed=1
exit "$missed"
