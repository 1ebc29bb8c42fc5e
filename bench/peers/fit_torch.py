# SPDX-License-Identifier: Apache-2.0
"""fit_torch.py FILE THREADS LIMIT [SEED]: attention regression by PyTorch's L-BFGS and Adam, on the problem of FILE (x, b
and lengths, as `furlong fit-attention --capture` writes them; causal), each in whitened and in raw coordinates, with Y
eliminated by least squares and without, f32. Learning rates are tuned: Adam's of three the one with the lowest loss after
60 evaluations, then a cosine; L-BFGS has the strong Wolfe search, which chooses its own, and 20 pairs, whitened with Y
eliminated 100 as well. Each run ends at 1e-10, after LIMIT seconds, or, once one has come to 1e-8, after three times as
long as that took, 20 s at least. One line of JSON a method, with every loss that is the lowest so far: evaluations,
iterations, seconds (whitening counts, tuning does not), loss."""
import json
import math
import sys
import time

from peer import torch
from safetensors.torch import load_file

DONE, ENOUGH = 1e-10, 1e-8


class Stop(Exception):
    pass


class Problem:
    def __init__(self, path, whitened):
        data = load_file(path)
        lengths = data["lengths"]
        assert bool((lengths == lengths[0]).all()), "sequences of one length"
        shape = (len(lengths), int(lengths[0]), -1)
        x = data["x"].double()
        a, k, v = x, x - x.mean(0), x
        if whitened:
            a, k, v = self.white(a), self.white(k), self.white(v)
        self.a, self.k, self.v = (t.float().reshape(shape) for t in (a, k, v))
        self.b = data["b"].float().reshape(shape)
        b = data["b"].double()
        self.total = float(((b - b.mean(0)) ** 2).sum())
        self.hidden = torch.ones(shape[1], shape[1], dtype=torch.bool).triu(1)

    @staticmethod
    def white(x):
        u, s, _ = torch.linalg.svd(x, full_matrices=False)
        return u[:, s > 1e-9 * s[0]] * math.sqrt(len(x))

    def phi(self, X):
        s = (self.a @ X) @ self.k.transpose(1, 2)
        return torch.softmax(s.masked_fill(self.hidden, float("-inf")), -1) @ self.v

    def y_of(self, phi):
        p = phi.reshape(-1, phi.shape[-1]).double()
        b = self.b.reshape(-1, self.b.shape[-1]).double()
        gram = p.T @ p
        gram.diagonal().add_(1e-14 * gram.diagonal().mean())
        return torch.linalg.solve(gram, p.T @ b).float().contiguous()

    def loss(self, X, Y):
        phi = self.phi(X)
        if Y is None:
            Y = self.y_of(phi.detach())  # gradient by Y is 0 there
        return ((phi @ Y - self.b) ** 2).sum() / self.total


def start(problem, eliminated, seed):
    torch.manual_seed(seed)
    d = problem.a.shape[-1]
    X = torch.randn(d, problem.k.shape[-1])
    with torch.no_grad():  # logits of rms 0.3, as Furlong begins
        s = (problem.a @ X) @ problem.k.transpose(1, 2)
        X *= 0.3 / s.std()
        Y = None if eliminated else problem.y_of(problem.phi(X)).requires_grad_()
    return X.requires_grad_(), Y


class Log:
    def __init__(self, began, limit):
        self.began, self.limit, self.count, self.best, self.trace = began, limit, 0, float("inf"), []
        self.iterations = lambda: self.count

    def see(self, loss):
        self.count += 1
        seconds = time.perf_counter() - self.began
        if loss < self.best:
            self.best = loss
            self.trace.append((self.count, self.iterations(), seconds, loss))
        if not math.isfinite(loss) or self.best <= DONE or seconds > self.limit:
            raise Stop


def lbfgs(problem, X, Y, log, pairs):
    unknowns = [X] if Y is None else [X, Y]
    optimizer = torch.optim.LBFGS(unknowns, lr=1, max_iter=100000, max_eval=100000, history_size=pairs,
                                  tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe")

    log.iterations = lambda: optimizer.state[optimizer._params[0]].get("n_iter", 0)

    def closure():
        optimizer.zero_grad()
        loss = problem.loss(X, Y)
        loss.backward()
        log.see(float(loss))
        return loss

    optimizer.step(closure)


def adam(problem, X, Y, log, rate, steps):
    optimizer = torch.optim.Adam([X] if Y is None else [X, Y], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = problem.loss(X, Y)
        loss.backward()
        log.see(float(loss))
        optimizer.step()
        schedule.step()


def tune(path, whitened, eliminated, seed):
    problem = Problem(path, whitened)
    best = (float("inf"), 0.01)
    for rate in (0.003, 0.01, 0.03):
        log = Log(time.perf_counter(), 1e9)
        try:
            adam(problem, *start(problem, eliminated, seed), log, rate, 60)
        except Stop:
            pass
        best = min(best, (log.best, rate))
    return best[1]


def run(path, kind, whitened, eliminated, pairs, seed, limit):
    rate = tune(path, whitened, eliminated, seed) if kind == "adam" else None
    log = Log(time.perf_counter(), limit)
    try:
        problem = Problem(path, whitened)
        X, Y = start(problem, eliminated, seed)
        if kind == "adam":
            adam(problem, X, Y, log, rate, 1500)
        else:
            lbfgs(problem, X, Y, log, pairs)
    except Stop:
        pass
    return {"method": f"{kind}{f' {pairs}' if pairs else ''}, {'whitened' if whitened else 'raw'}{', Y eliminated' if eliminated else ''}",
            "rate": rate, "evaluations": log.count, "seconds": time.perf_counter() - log.began, "loss": log.best,
            "trace": log.trace}


def main():
    path, threads, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    torch.set_num_threads(threads)
    methods = [("lbfgs", True, True, 100)]
    methods += [(kind, whitened, eliminated, 20 if kind == "lbfgs" else None)
                for kind in ("lbfgs", "adam") for whitened in (True, False) for eliminated in (True, False)]
    for method in methods:
        row = run(path, *method, seed, limit)
        print(json.dumps(row), flush=True)
        if row["loss"] <= ENOUGH:
            limit = min(limit, max(20.0, 3 * next(seconds for _, _, seconds, loss in row["trace"] if loss <= ENOUGH)))


main()
