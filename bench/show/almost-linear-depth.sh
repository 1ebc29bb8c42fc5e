# SPDX-License-Identifier: Apache-2.0
# whole-model gradient of 2, 8 and 16 almost-linear layers, random and trained, against float64 exact attention (target: 1e-3 at degree 2, 3 or 4)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
steps=${1-300}
tokens=384
# shellcheck disable=SC2086 # lists of words
need $packages_build $packages_test
get_text shakespeare
build_preset release
build_preset test
cmake --build build/test --target far_depth >build/test/far_depth.log 2>&1 || {
    cat build/test/far_depth.log >&2
    die "far_depth does not build"
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/result"
for layers in 2 8 16; do
    say "$layers layers: training $steps steps of 6,144 bytes in documents of $tokens"
    build/release/furlong train -f "$text_path" --preset bytes-1m --layers "$layers" --attention almost-linear \
        --window 48 --chunk 16 -c "$tokens" -b 6K --max-steps "$steps" --eval-steps 0 --save-steps 0 \
        --memory 4G -o "$work/$layers" --json 2>"$work/log" >"$work/json" || {
        cat "$work/log" >&2
        die "training of $layers layers failed"
    }
    for weights in random trained; do
        model=random:$layers
        [ "$weights" = random ] || model=$(find "$work/$layers" -name config.json | sort | tail -n 1)
        build/test/tests/far_depth "${model%/config.json}" "$text_path" "$tokens" 2 3 4 2>"$work/errors" |
            grep -E '^[0-9]' >"$work/lines" || {
            cat "$work/errors" >&2
            die "far_depth failed"
        }
        while read -r degree whole worst bf16 bf16_worst all all_exact; do
            echo "$layers layers, $weights, degree $degree: gradient off by $whole (worst tensor $worst); exact attention in bf16: $bf16 ($bf16_worst); all products in bf16: $all, with exact attention $all_exact"
            echo "$layers-$weights $degree $whole $bf16" >>"$work/result"
        done <"$work/lines"
    done
done
awk '
    { seen[$1] = 1
      if ($3 <= 1e-3) met[$1] = 1
      if ($3 < $4 && !($1 in least)) least[$1] = $2 }
    END {
        for (name in seen) {
            printf "%s: %s; smaller than the error of bf16 from degree %s on\n", name,
                name in met ? "within 1e-3" : "not within 1e-3 at any degree", name in least ? least[name] : "none"
            missed += !(name in met)
        }
        print missed ? "target missed" : "target met"
        exit missed > 0
    }' "$work/result"
