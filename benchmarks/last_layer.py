"""The slope of a last layer as samples, features and outputs grow: this package against plain autograd and dattri.

    python benchmarks/last_layer.py                          # a small table, minutes
    python benchmarks/last_layer.py --full                   # n = 10,000, d = 512: softmax c = 10 and BCE K = 40
    python benchmarks/last_layer.py --memory                 # 100,000 samples: peak memory of the whole slope
    python benchmarks/last_layer.py --python /path/to/python # an environment with dattri

Heads without bias, features of a fixed random ReLU layer. All methods get the same exact minimiser and return the slope
at beta = 0; "ours, with the fit" starts from the features alone. CPU seconds of one thread, imports left out; the error
is relative to a dense solve where the Hessian has at most 1,500 rows, and to this package's own answer where it has more. `benchmarks/slopes.py` compares more libraries on one softmax head.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import numpy as np

SMALL = [("softmax", n, d, c) for n, d, c in ((1000, 64, 10), (4000, 64, 10), (1000, 128, 10), (1000, 64, 30))]
SMALL += [("bce", 1000, 64, 40)]
FULL = [("softmax", 10_000, 512, 10), ("bce", 10_000, 512, 40)]
METHODS = ("ours", "ours, with the fit", "autograd cg", "dattri cg")
REG = 1.0


def make_arrays(kind, n, d, c, seed=0):
    """Random mixture through a ReLU layer, standardised; backdoor samples have a shifted mean and another class."""
    rng = np.random.default_rng(seed)
    m = 400 + n // 20
    label = rng.integers(0, c, n + m)
    hidden = rng.normal(size=(c, 32))[label] + rng.normal(size=(n + m, 32))
    X = np.maximum(hidden @ rng.normal(size=(32, d)) + 0.5 * rng.normal(size=(n + m, d)), 0.0)
    X = (X - X.mean(0)) / X.std(0)
    X[n:] += 0.3 * rng.normal(size=d)
    y = label.copy()
    y[n:] = (label[n:] + 1) % c
    targets = y if kind == "softmax" else (rng.random((n + m, c)) < 0.1) | (np.arange(c) == y[:, None])
    k = n + n // 20
    return {"X": X[:n], "y": targets[:n], "Xb": X[n:k], "yb": targets[n:k], "Xt": X[k:], "yt": targets[k:]}


def state(a, kind):
    """Objective, samples and problem of the package."""
    from learningcurves.networks.last_layer import HeadProblem
    from learningcurves.solvers.losses import SOFTMAX, MultiLogistic
    from learningcurves.solvers.objective import Objective, Samples

    c = int(a["y"].max()) + 1 if kind == "softmax" else a["y"].shape[1]
    loss = SOFTMAX if kind == "softmax" else MultiLogistic(weights=(1.0,) * c, positive=(1.0,) * c)
    y = {k: a[k] if kind == "softmax" else a[k].astype(float) for k in ("y", "yb", "yt")}
    problem = HeadProblem(a["X"], y["y"], a["Xb"], y["yb"], a["Xt"], y["yt"], a["Xt"], y["yt"])
    samples = Samples(
        np.vstack([a["X"], a["Xb"]]), np.concatenate([y["y"], y["yb"]]), np.ones(len(a["X"]) + len(a["Xb"])),
        len(a["X"]), n_outputs=c,
    )  # fmt: skip
    return Objective(loss, REG, None), samples, problem


def fit_and_slope(a, kind, clock=None):
    from learningcurves.curves.slope_error import smooth_slope
    from learningcurves.solvers.path import share, solve

    clock = clock or measure.Clock()
    with clock.timed("fit"):
        objective, samples, problem = state(a, kind)
        system = share(objective, samples).system
        path = solve(objective, samples, np.array([0.0]))
    with clock.timed("slope"):
        parts = smooth_slope(system, path.fit, problem)
    return parts, path


def torch_losses(a, kind):
    import torch
    import torch.nn.functional as F

    def make(X, y):
        X, y = torch.from_numpy(X), torch.from_numpy(y if kind == "softmax" else y.astype(float))

        def loss(w):
            out = X @ w.reshape(X.shape[1], -1)
            if kind == "softmax":
                return F.cross_entropy(out, y, reduction="sum")
            return F.binary_cross_entropy_with_logits(out, y, reduction="sum")

        return loss

    w = torch.from_numpy(a["w"]).reshape(-1)
    clean = make(a["X"], a["y"])
    return w, lambda v: clean(v) + 0.5 * REG * v.square().sum(), make(a["Xb"], a["yb"]), make(a["Xt"], a["yt"])


def by_autograd(a, kind, rtol=1e-10):
    """Conjugate gradients on products by double backward, no preconditioner."""
    import torch

    w, J, backdoor, test = torch_losses(a, kind)
    w = w.clone().requires_grad_(True)
    (g,) = torch.autograd.grad(J(w), w, create_graph=True)
    (b,), (t,) = torch.autograd.grad(backdoor(w), w), torch.autograd.grad(test(w), w)
    x, r = torch.zeros_like(b), b.clone()
    p, rr = r.clone(), float(r @ r)
    target = rtol * rr**0.5
    for _ in range(5000):
        (Hp,) = torch.autograd.grad(g, w, p, retain_graph=True)
        step = rr / float(p @ Hp)
        x, r = x + step * p, r - step * Hp
        new = float(r @ r)
        if new**0.5 < target:
            break
        p, rr = r + new / rr * p, new
    return float(-(t @ x) / len(a["Xt"]))


def by_dattri(a, kind, max_iter=100):  # it has no tolerance: so many steps, whatever the residual
    import torch
    from dattri.func.hessian import ihvp_cg

    w, J, backdoor, test = torch_losses(a, kind)
    b, t = torch.func.grad(backdoor)(w), torch.func.grad(test)(w)
    x = ihvp_cg(J, max_iter=max_iter)((w,), b).reshape(-1)
    return float(-(t @ x) / len(a["Xt"]))


def child(path, method, kind):
    a = dict(np.load(path))
    clock, before = measure.Clock(), 0.0
    if method.startswith("ours"):
        import learningcurves.curves.slope_error  # noqa: F401
        import learningcurves.networks.last_layer  # noqa: F401

        before = measure.peak_memory()
        parts, _ = fit_and_slope(a, kind, clock)
        value = parts.value
        if method == "ours":
            del clock.parts["fit"]
    else:
        solve = by_autograd if method == "autograd cg" else by_dattri
        import torch

        torch.set_num_threads(1)
        if solve is by_dattri:
            import dattri.func.hessian  # noqa: F401
        before = measure.peak_memory()
        with clock.timed("slope"):
            value = solve(a, kind)
    measure.report(clock, value=value, added=measure.peak_memory() - before)


def truth(a, kind):
    """Slope and minimiser; a dense Cholesky solve checks it where it fits."""
    parts, path = fit_and_slope(a, kind)
    w = path.coef[0]
    size = w.size
    if size <= 1500:
        system, fit = path.system, path.fit
        from learningcurves.curves.slope_error import triggered_gradient

        _, _, problem = state(a, kind)
        H = np.empty((size, size))
        eye = np.eye(size).reshape(-1, w.shape[0], 1, w.shape[1])
        for i, e in enumerate(eye):
            H[i] = system.product(fit.scores, fit.weights, e).ravel()
        g = triggered_gradient(system, fit, problem)[1].ravel()
        dense = -g @ np.linalg.solve(H, system.backdoor_gradient(fit.scores).ravel())
        return float(dense), w
    return parts.value, w


def compare(cases, python, limit):
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, n, d, c in cases:
            a = make_arrays(kind, n, d, c)
            exact, w = truth(a, kind)
            path = Path(folder) / "case.npz"
            np.savez(path, **a, w=w)
            for method in METHODS:
                run = sys.executable if method.startswith("ours") else python
                environment = dict(os.environ, **dict.fromkeys(measure.THREAD_VARIABLES, "1"))
                command = [run, __file__, "--child", str(path), method, kind]
                try:
                    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit)
                    found = json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None
                except subprocess.TimeoutExpired:
                    found = None
                case = f"{kind} {n:,} x {d} x {c}"
                if found is None:
                    rows.append((case, method, "failed", "", ""))
                else:
                    error = abs(found["value"] - exact) / abs(exact)
                    rows.append((case, method, f"{measure.total(found):.2f}", f"{found['added']:.0f}", f"{error:.1e}"))
                print("  ".join(rows[-1]), flush=True)
    return measure.table(("case", "method", "CPU s", "MiB added", "relative error"), rows)


def memory(n=100_000, d=512, c=10):
    """Peak memory of the slope of a head, features included, in MiB and in copies of the features."""
    a = make_arrays("softmax", n, d, c)
    features, before, started = (n + n // 20) * d * 8 / 2**20, measure.peak_memory(), time.process_time()
    parts, _ = fit_and_slope(a, "softmax")
    peak = measure.peak_memory()
    print(
        f"{n:,} x {d} x {c}: slope {parts.value:.6g} ({parts.status.value}), {time.process_time() - started:.0f} CPU s"
    )
    print(
        f"peak {peak:.0f} MiB, of which {before:.0f} before the fit; one float64 copy of the features {features:.0f} MiB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--samples", type=int, default=100_000, help="of --memory")
    parser.add_argument("--python", default=sys.executable, help="for the methods that need torch and dattri")
    parser.add_argument("--limit", type=float, default=900, help="seconds for one method")
    parser.add_argument("--child", nargs=3)
    args = parser.parse_args()
    if args.child:
        return child(*args.child)
    if args.memory:
        return memory(args.samples)
    print(compare(FULL if args.full else SMALL, args.python, args.limit))
    print(measure.machine())


if __name__ == "__main__":
    main()
