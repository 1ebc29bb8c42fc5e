# SPDX-License-Identifier: Apache-2.0
# exact attention in f32 and bf16 at 4,096 and 16,384 tokens (target: forward 63 %, backward 65 % of the run's peak)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
build_preset release
threads=2
[ "$(processors)" -ge 2 ] || threads=1
rounds=${1-3}
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# PyTorch, where ./dev peers has installed it, in turn with Furlong: what slows the machine for a while slows both.
for dtype in f32 bf16; do
    for tokens in 4096 16384; do
        round=0
        while [ "$round" -lt "$rounds" ]; do
            build/release/furlong bench attention --kind exact --tokens "$tokens" --heads 12 --head-dim 64 \
                --dtype "$dtype" --threads "$threads" --json | tail -n 1 | tr '{},:"' '     ' |
                awk -v row="$dtype-$tokens" -v dtype="$dtype" '
                {
                    for (i = 1; i < NF; i++) value[$i] = $(i + 1)
                    print "furlong", row, value["forward_gflops"], value["backward_gflops"], value["peak_gflops"],
                        value["isa"], value["forward_seconds"], value["backward_seconds"], dtype
                }' >>"$results"
            if [ -f build/peers/requirements.txt ]; then
                echo "torch $dtype-$tokens $("$peers_python" bench/peers/attention_torch.py "$tokens" 12 64 "$threads" \
                    "$dtype")" >>"$results"
            fi
            round=$((round + 1))
        done
    done
done
awk -v threads="$threads" '
    function best(key, value) { if (!(key in top) || value > top[key]) top[key] = value }
    $1 == "furlong" {
        best("forward" $2, $3); best("backward" $2, $4); best("peak" $9, $5)
        best("-fs" $2, -$7); best("-bs" $2, -$8)
        isa = $6
    }
    $1 == "torch" { best("-ft" $2, -$3); best("-bt" $2, -$4) }
    # With AMX the peak of bf16 is far above what attention can be fed at: there PyTorch is the measure.
    function line(dtype, tokens, way, target, times,    row, share, other, ratio, short) {
        row = dtype "-" tokens
        share = 100 * top[way row] / top["peak" dtype]
        other = substr(way, 1, 1)
        short = share < target
        printf "%-4s %6d tokens, %-8s %6.1f GFLOP/s, %4.1f %% of peak", dtype, tokens, way, top[way row], share
        if (dtype == "bf16" && isa == "amx")
            printf ", target at least %d times PyTorch", times
        else
            printf ", target at least %d %%", target
        if (("-" other "t" row) in top) {
            ratio = top["-" other "t" row] / top["-" other "s" row]
            printf "; PyTorch %4.1f %%, Furlong %.2f times as fast", share / ratio, ratio
        }
        if (dtype == "bf16" && isa == "amx")
            short = ratio < times
        print short ? "  MISSED" : ""
        missed += short
    }
    END {
        printf "%s, %d threads, peak of this run %.1f GFLOP/s in f32, %.1f in bf16\n", isa, threads, top["peakf32"],
            top["peakbf16"]
        for (n = 0; n < 2; n++)
            for (tokens = 4096; tokens <= 16384; tokens *= 4) {
                line(n ? "bf16" : "f32", tokens, "forward", 63, 3)
                line(n ? "bf16" : "f32", tokens, "backward", 65, 5)
            }
        exit missed > 0 || top["peakf32"] == 0
    }' "$results"
