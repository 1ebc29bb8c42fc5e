# SPDX-License-Identifier: Apache-2.0
"""fit_table.py NAME STEPS TIME OURS PEERS: steps and seconds to each loss, Furlong's runs (lines of JSON, the best counts)
beside the peers'; ends with 1 where the best peer to 1e-8 takes less than STEPS times the steps or TIME times the seconds.
Where nothing reaches 1e-8 (noise), losses are gaps to the lowest that any run found."""
import json
import sys

LEVELS = (1e-3, 1e-6, 1e-8, 1e-10)


def main(name, steps, seconds, ours, peers):
    runs = [json.loads(line) for line in open(ours, encoding="utf-8")]
    table = [json.loads(line) for line in open(peers, encoding="utf-8")]
    floor = min(run["loss"] for run in runs)
    floor = floor if floor > 1e-8 else 0.0
    best = {}
    for run in runs:
        for level in LEVELS:
            for step in run["history"]:
                if step["loss"] - floor <= level:
                    at = (step["step"], step["seconds"])
                    if level not in best or at[1] < best[level][1]:
                        best[level] = at
                    break
    print(f"{name}: steps (evaluations) / seconds to " + ", ".join(f"{level:.0e}" for level in LEVELS) +
          (f", above the floor {floor:.3e} for Furlong" if floor else ""))

    def cell(at):
        return "      -      " if at is None else f"{at[0]:5d} / {at[1]:6.2f}"

    print(f"  {'furlong, ' + runs[0]['route']:34s}" + "  ".join(cell(best.get(level)) for level in LEVELS))
    least_steps = least_seconds = None
    for row in table:
        reached = [row["reached"][f"{level:.0e}"] for level in LEVELS]
        print(f"  {row['method']:34s}" + "  ".join(cell(at) for at in reached) + f"  {row['loss']:.1e} after {row['seconds']:.0f} s")
        if reached[2] is not None:
            least_steps = min(least_steps or reached[2][0], reached[2][0])
            least_seconds = min(least_seconds or reached[2][1], reached[2][1])
    if floor or not steps and not seconds:
        return 0
    if 1e-8 not in best:
        print("  furlong did not reach 1e-8")
        return 1
    if least_steps is None:
        print("  no peer reached 1e-8")
        return 0
    ratio = (least_steps / best[1e-8][0], least_seconds / best[1e-8][1])
    print(f"  best peer: {ratio[0]:.1f} times the steps (target {steps:g}), {ratio[1]:.1f} times the seconds (target {seconds:g})")
    return 0 if ratio[0] >= steps and ratio[1] >= seconds else 1


sys.exit(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5]))
