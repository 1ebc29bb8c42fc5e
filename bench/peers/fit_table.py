# SPDX-License-Identifier: Apache-2.0
"""fit_table.py NAME STEPS TIME OURS PEERS: steps and seconds to each loss, Furlong's runs (lines of JSON, the best counts)
beside the peers'; ends with 1 where the best peer to 1e-8 takes less than STEPS times the steps or TIME times the seconds.
A step of Furlong is one curvature, a step of a peer one iteration; evaluations of the loss stand in brackets. Where
nothing reaches 1e-8 (noise), losses are gaps to the lowest that any run found."""
import json
import sys

LEVELS = (1e-3, 1e-6, 1e-8, 1e-10)


def rows(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def ours_as_row(run):
    trace = [[step["evaluations"], step["step"], step["seconds"], step["loss"]] for step in run["history"]]
    return {"method": "furlong, " + run["route"], "seconds": run["seconds"], "loss": run["loss"], "trace": trace}


def reached(row, floor):
    """(steps, evaluations, seconds) to each level; None: never."""
    return [next(((steps, evaluations, seconds) for evaluations, steps, seconds, loss in row["trace"]
                  if loss - floor <= level), None) for level in LEVELS]


def cell(at):
    return f"{'-':^20s}" if at is None else f"{at[0]:4d} ({at[1]:4d}) / {at[2]:6.2f}"


def main(name, steps, seconds, ours, peers):
    runs = [ours_as_row(run) for run in rows(ours)]
    table = rows(peers)
    floor = min(row["loss"] for row in runs + table)
    floor = floor if floor > 1e-8 else 0.0
    print(f"{name}: steps (evaluations) / seconds to " + ", ".join(f"{level:.0e}" for level in LEVELS) +
          (f" above the lowest loss of any run, {floor:.6e}" if floor else ""))
    best = min((reached(run, floor) for run in runs), key=lambda at: at[2][2] if at[2] else float("inf"))
    print(f"  {runs[0]['method']:34s}" + " ".join(cell(at) for at in best) + f"  {min(run['loss'] for run in runs):.1e}")
    found = []
    for row in table:
        at = reached(row, floor)
        print(f"  {row['method']:34s}" + " ".join(cell(one) for one in at) +
              f"  {row['loss']:.1e} after {row['seconds']:.0f} s")
        if at[2]:
            found.append(at[2])
    if not steps and not seconds:
        return 0
    if best[2] is None:
        print("  furlong did not reach 1e-8")
        return 1
    if not found:
        print("  no peer reached 1e-8")
        return 0
    ratio = (min(at[0] for at in found) / best[2][0], min(at[2] for at in found) / best[2][2])
    wanted = f" (target {steps:g})" if steps else ""
    print(f"  best peer: {ratio[0]:.1f} times the steps{wanted}, {min(at[1] for at in found) / best[2][1]:.1f} times the "
          f"evaluations, {ratio[1]:.1f} times the seconds (target {seconds:g})")
    return 0 if ratio[0] >= steps and ratio[1] >= seconds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5]))
