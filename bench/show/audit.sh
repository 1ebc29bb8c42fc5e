# SPDX-License-Identifier: Apache-2.0
# audit of a model trained here without a bound: heads over target are named and stay exact (target: the loss of the rest equals the exact run's to 1e-5)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
steps=${1-60}
# shellcheck disable=SC2086 # a list of words
need $packages_build
get_text shakespeare
build_preset release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "training $steps steps with exact attention, without a bound on its logits"
build/release/furlong train -f "$text_path" -c 1K -b 4K --max-steps "$steps" --eval-steps 0 --save-steps 0 --memory 1G \
    -o "$work/run" --json >"$work/json" 2>"$work/log" || {
    cat "$work/log" >&2
    die "training failed"
}
value() { sed -n "s/.*\"$1\": *\\([-0-9.e+]*\\).*/\\1/p" "$work/audit.json"; }
missed=0
named=0
for target in 1e-3 4e-3; do
    rm -rf "$work/mixed"
    build/release/furlong audit -m "$work/run" -f "$text_path" -c 1K --max-tokens 64K --max-error "$target" \
        -o "$work/mixed" --json >"$work/audit.json" 2>"$work/log" || {
        cat "$work/log" >&2
        die "audit failed"
    }
    exact=$(value exact_heads)
    heads=$(value heads)
    named=$((named + exact))
    if [ "$exact" -eq "$heads" ]; then
        echo "target $target: all $heads heads stay exact; loss $(value exact_loss), unchanged"
        continue
    fi
    build/release/furlong eval -m "$work/mixed" -f "$text_path" -c 1K --max-tokens 64K --json >"$work/eval.json" 2>/dev/null
    saved=$(sed -n 's/.*"loss": *\([-0-9.e+]*\).*/\1/p' "$work/eval.json" | head -n 1)
    awk -v target="$target" -v exact="$exact" -v heads="$heads" -v a="$(value exact_loss)" -v b="$(value mixed_loss)" -v saved="$saved" 'BEGIN {
        off = b - a
        printf "target %s: %d of %d heads stay exact; loss %.7f exact, %.7f so: %+.1e (target 1e-5 in size); saved and read again %.7f\n", target, exact, heads, a, b, off, saved
        exit !(off < 1e-5 && off > -1e-5 && saved - b < 1e-6 && b - saved < 1e-6)
    }' || missed=1
done
[ "$named" -gt 0 ] || missed=1
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
