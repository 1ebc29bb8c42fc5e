# SPDX-License-Identifier: Apache-2.0
# exact attention in f32 at 4,096 and 16,384 tokens (target: forward 55 %, backward 50 % of the run's peak)
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
for tokens in 4096 16384; do
    round=0
    while [ "$round" -lt "$rounds" ]; do
        build/release/furlong bench attention --kind exact --tokens "$tokens" --heads 12 --head-dim 64 --dtype f32 \
            --threads "$threads" --json | tail -n 1 | tr '{},:"' '     ' | awk -v tokens="$tokens" '
            {
                for (i = 1; i < NF; i++) value[$i] = $(i + 1)
                print "furlong", tokens, value["forward_gflops"], value["backward_gflops"], value["peak_gflops"],
                    value["isa"], value["forward_seconds"], value["backward_seconds"]
            }' >>"$results"
        if [ -f build/peers/requirements.txt ]; then
            echo "torch $tokens $("$peers_python" bench/peers/attention_torch.py "$tokens" 12 64 "$threads")" >>"$results"
        fi
        round=$((round + 1))
    done
done
awk -v threads="$threads" '
    function best(key, value) { if (!(key in top) || value > top[key]) top[key] = value }
    $1 == "furlong" {
        best("forward" $2, $3); best("backward" $2, $4); best("peak", $5)
        best("-fs" $2, -$7); best("-bs" $2, -$8)
        isa = $6
    }
    $1 == "torch" { best("-ft" $2, -$3); best("-bt" $2, -$4) }
    function line(tokens, way, target,    share, other) {
        share = 100 * top[way tokens] / top["peak"]
        other = substr(way, 1, 1)
        printf "%6d tokens, %-8s %5.1f GFLOP/s, %4.1f %% of peak, target at least %d %%", tokens, way, top[way tokens], share, target
        if (("-" other "t" tokens) in top)
            printf "; PyTorch %4.1f %%, Furlong %.2f times as fast", share * top["-" other "s" tokens] / top["-" other "t" tokens],
                top["-" other "t" tokens] / top["-" other "s" tokens]
        print share < target ? "  MISSED" : ""
        missed += share < target
    }
    END {
        printf "%s, %d threads, peak of this run %.1f GFLOP/s\n", isa, threads, top["peak"]
        for (tokens = 4096; tokens <= 16384; tokens *= 4) {
            line(tokens, "forward", 55)
            line(tokens, "backward", 50)
        }
        exit missed > 0 || top["peak"] == 0
    }' "$results"
