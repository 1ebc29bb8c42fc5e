# SPDX-License-Identifier: Apache-2.0
"""longest.py FURLONG THREADS [slopes|bisect]: how long a row each way of training gets through in f32.

slopes  gpt2-124m in 6 GiB: peak memory at three lengths each, a line through them (for plain attention a parabola), and the
        length at which it meets the limit.
bisect  bytes-4m, to the end: the limit of each way is its own peak at 1,024 tokens plus 256 MiB; a child above it is
        stopped. The longest row that a way survives, to within one part in 32.

Furlong keeps on disk what can be there; under a limit the plan chooses. Exits 1 when a target is missed."""
import json
import subprocess
import sys
import time

WAYS = ("plain", "kernel", "chunked")
TARGETS = {"slopes": {"plain": (64, 64), "kernel": (32, 32), "chunked": (5, 5)},  # at least, goal
           "bisect": {"plain": (32, 64), "kernel": (4, 6), "chunked": (2, 2)}}
LIMIT = 6 << 30
SLOPE_LENGTHS = {"plain": (512, 1024, 2048), "kernel": (2048, 4096, 8192), "chunked": (4096, 8192, 16384),
                 "furlong": (8192, 16384, 24576)}
MORE = 256 << 20
LEAST = ("--keep", "nothing", "--store", "disk")  # what needs the least memory


def run(command, limit=None):
    """peak resident bytes of the command and its output; None where it died or passed the limit"""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    over = False
    while child.poll() is None and not over:
        time.sleep(0.02)
        try:
            with open(f"/proc/{child.pid}/statm") as file:
                over = limit is not None and int(file.read().split()[1]) * 4096 > limit
        except (FileNotFoundError, ProcessLookupError):
            pass
    if over:
        child.kill()
    text = child.communicate()[0]
    return None if over or child.returncode else text


def torch(way, shape, tokens, threads, limit=None):
    text = run([sys.executable, f"{sys.path[0]}/longest_torch.py", way, shape, str(tokens), threads], limit)
    peak = int(text) if text else None
    return None if peak is None or (limit and peak > limit) else peak


def furlong(program, shape, tokens, threads, limit=None, keep=()):
    command = [program, "bench", "step", "--preset", shape, "--tokens", str(tokens), "--threads", threads, *keep, "--json"]
    text = run(command + (["--memory", str(limit)] if limit else []), limit)
    peak = json.loads(text.splitlines()[-1])["peak_rss_bytes"] if text else None
    return None if peak is None or (limit and peak > limit) else peak


def meets(lengths, peaks, limit, squares):
    """the length at which the curve through three points meets the limit"""
    (a, b, c), (x, y, z) = lengths, peaks
    curve = ((z - x) / (c - a) - (y - x) / (b - a)) / (c - b) if squares else 0.0
    slope = (z - x) / (c - a) - curve * (c + a)
    low, high = float(c), float(c)
    while x + slope * (high - a) + curve * (high * high - a * a) < limit:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if x + slope * (middle - a) + curve * (middle * middle - a * a) < limit:
            low = middle
        else:
            high = middle
    return low


def slopes(program, threads):
    found = {}
    for way in (*WAYS, "furlong"):
        lengths = SLOPE_LENGTHS[way]
        peaks = [furlong(program, "gpt2-124m", n, threads, keep=LEAST) if way == "furlong"
                 else torch(way, "gpt2-124m", n, threads) for n in lengths]
        if None in peaks:
            sys.exit(f"{way}: a run failed")
        found[way] = meets(lengths, peaks, LIMIT, way == "plain")
        per_token = (peaks[2] - peaks[1]) / (lengths[2] - lengths[1])
        print(f"{way:8s} " + ", ".join(f"{n} tokens {p / 2**20:.0f} MiB" for n, p in zip(lengths, peaks)) +
              f"; {per_token / 1e3:.1f} KB a token at last; 6 GiB reach {found[way]:,.0f} tokens", flush=True)
    return found


def longest(survives):
    """to within one part in 32 of the largest n that survives, n a multiple of 32"""
    low, high = 1024, 2048
    while survives(high):
        low, high = high, 2 * high
    while high - low > max(32, low // 32):
        middle = (low + high) // 64 * 32
        low, high = (middle, high) if survives(middle) else (low, middle)
    return low


def bisect(program, threads):
    found = {}
    for way in (*WAYS, "furlong"):
        def once(n, limit):
            if way == "furlong":
                return furlong(program, "bytes-4m", n, threads, limit)
            return torch(way, "bytes-4m", n, threads, limit)

        keep = furlong(program, "bytes-4m", 1024, threads, keep=LEAST) if way == "furlong" else once(1024, None)
        if keep is None:
            sys.exit(f"{way}: 1,024 tokens failed")
        limit = keep + MORE
        found[way] = longest(lambda n: once(n, limit) is not None)
        print(f"{way:8s} limit {limit / 2**20:.0f} MiB: longest {found[way]:,} tokens", flush=True)
    return found


def main():
    program, threads = sys.argv[1:3]
    missed = False
    for mode in sys.argv[3:] or ("slopes", "bisect"):
        found = slopes(program, threads) if mode == "slopes" else bisect(program, threads)
        for way, (least, goal) in TARGETS[mode].items():
            ratio = found["furlong"] / found[way]
            print(f"{'gpt2-124m in 6 GiB' if mode == 'slopes' else 'bytes-4m, own peak at 1,024 + 256 MiB'}: Furlong {ratio:.1f} times "
                  f"{way}, target at least {least}" + (f", goal {goal}" if goal > least else ""), flush=True)
            missed = missed or ratio < least
    return missed


sys.exit(main())
