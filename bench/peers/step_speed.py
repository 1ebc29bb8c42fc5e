# SPDX-License-Identifier: Apache-2.0
"""step_speed.py FURLONG TOKENS THREADS ROUNDS DTYPE TARGET [MEMORY]: optimizer steps of gpt2-124m, Furlong and PyTorch in
turn, so that what slows the machine for a while slows both. The best of each counts. Exits 1 when Furlong is less than
TARGET times as fast as the better of PyTorch's ways, or its peak memory is above MEMORY, a limit it is given (2.6G)."""
import json
import math
import subprocess
import sys

STEPS = 2  # of PyTorch, each way in each round; Furlong's bench takes the best of 3


def furlong(program, tokens, threads, dtype, memory):
    command = [program, "bench", "step", "--preset", "gpt2-124m", "--tokens", tokens, "--dtype", dtype, "--threads",
               threads, "--json"] + (["--memory", memory] if memory else [])
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


def main():
    program, tokens, threads, rounds, dtype, target = sys.argv[1:7]
    memory = sys.argv[7] if len(sys.argv) > 7 else None
    peer = subprocess.Popen([sys.executable, f"{sys.path[0]}/step_torch.py", tokens, threads, dtype], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)

    def torch(way):
        peer.stdin.write(f"{way} {STEPS}\n")
        peer.stdin.flush()
        return int(tokens) / float(peer.stdout.readline())

    best = {"Furlong": 0.0, "eager": 0.0, "compiled": 0.0}
    ours, peak = {}, 0.0
    for number in range(int(rounds)):
        ours = furlong(program, tokens, threads, dtype, memory)
        peak = max(peak, ours["peak_gflops"])
        now = {"Furlong": ours["tokens_per_second"], "eager": torch("eager"), "compiled": torch("compiled")}
        print(f"round {number + 1}: " + ", ".join(f"{k} {v:.1f}" for k, v in now.items()) + " tokens/s", flush=True)
        for key, value in now.items():
            if not math.isnan(value):
                best[key] = max(best[key], value)
    peer.stdin.close()
    peer.wait()
    ratio = best["Furlong"] / max(best["eager"], best["compiled"])
    print(f"gpt2-124m, one step over {tokens} tokens, {dtype}, {threads} threads, {ours['isa']}, peak "
          f"{peak:.1f} GFLOP/s: Furlong {best['Furlong']:.1f} tokens/s, PyTorch eager "
          f"{best['eager']:.1f}, compiled {best['compiled']:.1f}")
    print(f"Furlong is {ratio:.2f} times as fast, target at least {float(target):.2f}; memory: peak "
          f"{ours['peak_rss_bytes'] / 1e6:.0f} MB, planned {ours['planned_peak_bytes'] / 1e6:.0f} MB")
    within = memory is None or ours["peak_rss_bytes"] <= float(memory[:-1]) * 2**30
    return not (ratio >= float(target) and within)


sys.exit(main())
