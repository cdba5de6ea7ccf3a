"""The slope of a last layer: this package against plain autograd, pyDVL, dattri and curvlinops; its growth; its memory.

    python benchmarks/last_layer.py                          # a small table, a minute
    python benchmarks/last_layer.py --full                   # n = 10,000, d = 512: softmax c = 10 and BCE K = 40
    python benchmarks/last_layer.py --growth                 # ours alone as n, d, c grow
    python benchmarks/last_layer.py --steps                  # conjugate gradient steps under each preconditioner
    python benchmarks/last_layer.py --memory                 # 100,000 samples: peak memory of the whole slope
    python benchmarks/last_layer.py --python /path/to/python # an environment with torch, pyDVL, dattri, curvlinops

Heads without bias. "mixture": Gaussian classes through a random ReLU layer; "mnist": all digits through one. All methods
get the same exact minimiser and return the slope at beta = 0; "ours, with the fit" starts from the features alone. The
libraries get the summed gradient of the backdoor samples as one right-hand side, where they would solve one system a
sample. CPU seconds of one thread, imports left out; the error is relative to two solves of this package in double
precision to 1e-12 (dense algebra where the Hessian has at most 1,500 rows). Dense solvers of the libraries are left
out: a Hessian by autograd is 5,120 products.
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

SMALL = [("mixture", 1000, 64, 10, 1.0), ("bce", 1000, 64, 40, 1.0)]
FULL = [("mixture", 10_000, 512, 10, 1.0), ("bce", 10_000, 512, 40, 1.0)]
FULL += [("mnist", 10_000, 512, 10, reg) for reg in (0.01, 1.0, 100.0)]
GROWTH = [(10_000, 512, 10), (20_000, 512, 10), (40_000, 512, 10), (10_000, 256, 10), (10_000, 1024, 10)]
GROWTH += [(10_000, 512, 5), (10_000, 512, 20), (10_000, 512, 40)]
METHODS = (
    "ours", "ours, with the fit", "autograd cg 1e-6", "autograd cg 1e-8", "pydvl cg 1e-6", "curvlinops cg 1e-6",
    "dattri cg 100", "dattri cg 500",
)  # fmt: skip


def make_arrays(kind, n, d, c, seed=0):
    """Features and labels of one case."""
    if kind != "mnist":
        return mixture(kind, n, d, c, seed)
    import slopes

    a = slopes.make_problem("head", n)  # 511 features and a constant one
    names = {"clean": "", "backdoor": "b", "triggered": "t"}
    return {f"X{k}": a[f"X_{p}"] for p, k in names.items()} | {
        f"y{k}": a[f"y_{p}"].astype(int) for p, k in names.items()
    }


def mixture(kind, n, d, c, seed=0):
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
    targets = y if kind != "bce" else (rng.random((n + m, c)) < 0.1) | (np.arange(c) == y[:, None])
    k = n + n // 20
    return {"X": X[:n], "y": targets[:n], "Xb": X[n:k], "yb": targets[n:k], "Xt": X[k:], "yt": targets[k:]}


def state(a, kind, reg):
    """Objective, samples and problem of the package."""
    from learningcurves.networks.last_layer import HeadProblem
    from learningcurves.solvers.losses import SOFTMAX, MultiLogistic
    from learningcurves.solvers.objective import Objective, Samples

    c = int(a["y"].max()) + 1 if kind != "bce" else a["y"].shape[1]
    loss = SOFTMAX if kind != "bce" else MultiLogistic(weights=(1.0,) * c, positive=(1.0,) * c)
    y = {k: a[k] if kind != "bce" else a[k].astype(float) for k in ("y", "yb", "yt")}
    problem = HeadProblem(a["X"], y["y"], a["Xb"], y["yb"], a["Xt"], y["yt"], a["Xt"], y["yt"])
    samples = Samples(
        np.vstack([a["X"], a["Xb"]]), np.concatenate([y["y"], y["yb"]]), np.ones(len(a["X"]) + len(a["Xb"])),
        len(a["X"]), n_outputs=c,
    )  # fmt: skip
    return Objective(loss, reg, None), samples, problem


def fit_and_slope(a, kind, reg, clock=None):
    from learningcurves.curves.slope_error import smooth_slope
    from learningcurves.solvers.path import share, solve

    clock = clock or measure.Clock()
    with clock.timed("fit"):
        objective, samples, problem = state(a, kind, reg)
        system = share(objective, samples).system
        path = solve(objective, samples, np.array([0.0]))
    with clock.timed("slope"):
        parts = smooth_slope(system, path.fit, problem)
    return parts, path


def slope_at(a, kind, reg, clock):
    """Slope at the given minimiser, with nothing of the fit at hand."""
    from learningcurves.curves.slope_error import smooth_slope
    from learningcurves.solvers.newton import SmoothFit
    from learningcurves.solvers.smooth import SmoothSystem

    with clock.timed("slope"):
        objective, samples, problem = state(a, kind, reg)
        system = SmoothSystem(samples, objective)
        theta = system.pack(a["w"][None], None)
        scores, weights = system.scores(theta), samples.at(np.zeros(1))
        gradient = system.gradient(theta, scores, weights)
        fit = SmoothFit(np.zeros(1), theta, scores, gradient, weights, np.zeros(1), [])
        return smooth_slope(system, fit, problem)


# %% the same slope by torch and by the libraries


def torch_parts(a, kind):
    """Linear layer at the minimiser, summed loss that takes one sample or many, and the sets as tensors."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    model = torch.nn.Linear(*a["w"].shape, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(a["w"].T.copy()))

    def loss(output, target):
        output = output.reshape(-1, output.shape[-1])
        if kind != "bce":
            return F.cross_entropy(output, target.reshape(-1), reduction="sum")
        return F.binary_cross_entropy_with_logits(output, target.reshape(output.shape), reduction="sum")

    targets = {k: a[k] if kind != "bce" else a[k].astype(float) for k in ("y", "yb", "yt")}
    sets = {k: (torch.from_numpy(a[f"X{k}"]), torch.from_numpy(targets[f"y{k}"])) for k in ("", "b", "t")}
    return model, loss, sets


def gradient(model, loss, pair):
    import torch

    return torch.autograd.grad(loss(model(pair[0]), pair[1]), model.weight)[0]


def by_autograd(model, loss, sets, reg, rtol):
    """Conjugate gradients on products by double backward, no preconditioner."""
    import torch

    w = model.weight
    J = loss(model(sets[""][0]), sets[""][1]) + 0.5 * reg * w.square().sum()
    (g,) = torch.autograd.grad(J, w, create_graph=True)
    b, t = gradient(model, loss, sets["b"]), gradient(model, loss, sets["t"])
    x, r = torch.zeros_like(b), b.clone()
    p, rr = r.clone(), float(r.square().sum())
    target = rtol * rr**0.5
    for _ in range(5000):
        (Hp,) = torch.autograd.grad(g, w, p, retain_graph=True)
        step = rr / float((p * Hp).sum())
        x, r = x + step * p, r - step * Hp
        new = float(r.square().sum())
        if new**0.5 < target:
            break
        p, rr = r + new / rr * p, new
    return float(-(t * x).sum())


def by_pydvl(model, loss, sets, reg, rtol):
    import pydvl.influence.torch as pit
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(*sets[""]), batch_size=len(sets[""][0]))
    found = pit.CgInfluence(model, loss, reg, rtol=rtol, atol=0.0, maxiter=5_000, precompute_grad=True)
    one = [tensor[None] for name in ("t", "b") for tensor in sets[name]]  # each set as one sample
    return -float(found.fit(loader).influences(*one).sum())


def by_curvlinops(model, loss, sets, reg, rtol):
    import torch
    from curvlinops import CGInverseLinearOperator, HessianLinearOperator
    from curvlinops.examples import IdentityLinearOperator

    x, y = sets[""]
    kind = torch.nn.CrossEntropyLoss if y.ndim == 1 else torch.nn.BCEWithLogitsLoss
    parameters = list(model.parameters())
    H = HessianLinearOperator(model, kind(reduction="sum"), parameters, [(x, y)], check_deterministic=False)
    identity = IdentityLinearOperator([tuple(p.shape) for p in parameters], x.device, x.dtype)
    inverse = CGInverseLinearOperator(H + reg * identity, eps=0, tolerance=rtol, max_iter=5_000, max_tridiag_iter=1)
    solution = inverse @ gradient(model, loss, sets["b"]).detach().reshape(-1)
    return -float(solution @ gradient(model, loss, sets["t"]).reshape(-1))


def by_dattri(model, loss, sets, reg, steps):
    """It has no tolerance here: so many steps, whatever the residual."""
    from dattri.func.hessian import ihvp_at_x_cg

    w = model.weight.detach().reshape(-1)
    x, y = sets[""]

    def J(w):
        return loss(x @ w.reshape(model.weight.shape).T, y) + 0.5 * reg * w.square().sum()

    inverse = ihvp_at_x_cg(J, w, max_iter=int(steps), mode="rev-rev")
    b, t = (gradient(model, loss, sets[k]).detach().reshape(-1) for k in ("b", "t"))
    return float(-(t @ inverse(b).reshape(-1)))


def child(path, method, kind, reg):
    a, reg = dict(np.load(path)), float(reg)
    clock = measure.Clock()
    if method.startswith("ours"):
        import learningcurves.curves.slope_error
        import learningcurves.networks.last_layer  # noqa: F401

        before = measure.peak_memory()
        if method == "ours":
            value = slope_at(a, kind, reg, clock).value
        else:
            value = fit_and_slope(a, kind, reg, clock)[0].value
    else:
        name, _, setting = method.split()
        model, loss, sets = torch_parts(a, kind)
        __import__({"autograd": "torch", "pydvl": "pydvl.influence.torch"}.get(name, name))
        before = measure.peak_memory()
        solve = {"autograd": by_autograd, "pydvl": by_pydvl, "curvlinops": by_curvlinops, "dattri": by_dattri}[name]
        with clock.timed("slope"):
            value = solve(model, loss, sets, reg, float(setting)) / len(a["Xt"])
    measure.report(clock, value=value, added=measure.peak_memory() - before)


def truth(a, kind, reg):
    """Slope and minimiser: by dense algebra where it fits, else by two solves in double precision."""
    from learningcurves.curves.slope_error import triggered_samples
    from learningcurves.solvers.linear_solve import Identity, conjugate_gradients

    _, path = fit_and_slope(a, kind, reg)
    w, system, fit = path.coef[0], path.system, path.fit
    g = triggered_samples(system, fit, state(a, kind, reg)[2]).gradient
    b = system.backdoor_gradient(fit.scores)
    if w.size <= 1500:
        eye = np.eye(w.size).reshape(w.size, *w.shape).transpose(1, 0, 2)
        H = np.concatenate([system.product(fit.scores, fit.weights, eye[:, i : i + 1]) for i in range(w.size)], axis=1)
        return float(-g.ravel() @ np.linalg.solve(H.transpose(1, 0, 2).reshape(w.size, -1), b.ravel())), w
    product = system.curvature(fit.scores, fit.weights)  # plain and in double precision: not the code that is measured
    s, r = {}, {}
    for name, right in (("t", g), ("b", b)):
        s[name], *_ = conjugate_gradients(product, right, Identity(), rtol=1e-10, max_steps=5_000)
        r[name] = right - product(s[name])
    return -float(np.vdot(s["t"], b) + np.vdot(r["t"], s["b"])), w


def compare(cases, python, limit):
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, n, d, c, reg in cases:
            a = make_arrays(kind, n, d, c)
            exact, w = truth(a, kind, reg)
            path = Path(folder) / "case.npz"
            np.savez(path, **a, w=w)
            case, ours = f"{kind} {n:,} x {d} x {c}, reg {reg:g}", None
            for method in METHODS:
                found = run_child([str(path), method, kind, str(reg)], method, python, limit)
                if isinstance(found, str):
                    rows.append((case, method, found, "", "", ""))
                else:
                    error, spent = abs(found["value"] - exact) / abs(exact), measure.total(found)
                    ours = ours or spent
                    rows.append(
                        (case, method, f"{spent:.2f}", f"{spent / ours:.1f}", f"{found['added']:.0f}", f"{error:.0e}")
                    )
                print("  ".join(rows[-1]), flush=True)
    return measure.table(("case", "method", "CPU s", "of ours", "MiB added", "relative error"), rows)


def run_child(arguments, method, python, limit):
    run = sys.executable if method.startswith("ours") else python
    environment = dict(os.environ, **dict.fromkeys(measure.THREAD_VARIABLES, "1"))
    command = [run, __file__, "--child", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"not within {limit:g} s of wall time"
    if done.returncode:
        return "failed: " + (done.stderr.strip().splitlines() or ["?"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


def growth():
    """CPU seconds of ours at the minimiser, and of the fit, as one of n, d, c grows."""
    rows = []
    for n, d, c in GROWTH:
        a, clock = mixture("mixture", n, d, c), measure.Clock()
        _, path = fit_and_slope(a, "mixture", 1.0, clock)
        a["w"] = path.coef[0]
        alone = measure.Clock()
        parts = slope_at(a, "mixture", 1.0, alone)
        spent = alone.parts["slope"]["cpu"], clock.parts["fit"]["cpu"]
        rows.append(
            (f"{n:,}", d, c, f"{spent[0]:.2f}", f"{spent[1]:.1f}", f"{parts.error_bound / abs(parts.value):.0e}")
        )
        print(*rows[-1], flush=True)
    return measure.table(("n", "d", "c", "slope CPU s", "fit CPU s", "relative error bound"), rows)


def steps(cases):
    """Steps to a relative residual of 1e-6 in double precision, one right-hand side."""
    from learningcurves.curves.pair_solve import OutputCurvature, RotatedBlocks
    from learningcurves.solvers.linear_solve import conjugate_gradients
    from learningcurves.solvers.preconditioners import Identity, Kronecker

    rows = []
    for kind, n, d, c, reg in cases:
        _, path = fit_and_slope(make_arrays(kind, n, d, c), kind, reg)
        system, fit = path.system, path.fit
        output, separate = OutputCurvature(system, fit), OutputCurvature(system, fit)
        separate.basis, separate.second = np.eye(c), separate.weights * output.probability * (1 - output.probability)
        product, rhs = system.curvature(fit.scores, fit.weights), system.backdoor_gradient(fit.scores)
        row = [f"{kind} {n:,} x {d} x {c}, reg {reg:g}"]
        for inverse in (
            Identity(),
            Kronecker(system, fit.scores, fit.weights),
            RotatedBlocks(system, separate),
            RotatedBlocks(system, output),
        ):
            row.append(conjugate_gradients(product, rhs, inverse, rtol=1e-6, max_steps=3_000)[2])
        rows.append(row)
        print(*row, flush=True)
    return measure.table(("case", "none", "Kronecker", "one block a class", "rotated blocks"), rows)


def memory(n=100_000, d=512, c=10):
    """Peak memory of `backdoor_slope` on a module, from its input samples on, in MiB and in copies of the features."""
    import torch

    import learningcurves as lc

    a = mixture("mixture", n, 64, c)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(64, d), torch.nn.ReLU(), torch.nn.Linear(d, c))
    parts = {name: (a[f"X{k}"], a[f"y{k}"]) for name, k in (("clean", ""), ("backdoor", "b"), ("triggered", "t"))}
    features, before, started = (n + n // 20) * d * 8 / 2**20, measure.peak_memory(), time.process_time()
    slope = lc.backdoor_slope(module, parts, reg=1.0)
    peak = measure.peak_memory()
    print(f"{n:,} x {d} x {c}: {slope!r}\n{time.process_time() - started:.0f} CPU s")
    print(f"peak {peak:.0f} MiB, {before:.0f} of them before; one float64 copy of the features: {features:.0f} MiB")
    print(f"added: {(peak - before) / features:.1f} copies")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--samples", type=int, default=100_000, help="of --memory")
    parser.add_argument("--case", default="", help="only cases whose kind contains this")
    parser.add_argument("--reg", type=float, help="only cases of this lambda")
    parser.add_argument("--python", default=sys.executable, help="for the methods that need torch and a library")
    parser.add_argument("--limit", type=float, default=900, help="seconds for one method")
    parser.add_argument("--child", nargs=4)
    args = parser.parse_args()
    if args.child:
        return child(*args.child)
    if args.memory:
        return memory(args.samples)
    cases = [case for case in (FULL if args.full else SMALL) if args.case in case[0] and args.reg in (None, case[4])]
    if args.steps:
        print(
            steps(
                [("mixture", 10_000, 512, 10, reg) for reg in (0.01, 1.0, 100.0)] + [c for c in FULL if c[0] == "mnist"]
            )
        )
    else:
        print(growth() if args.growth else compare(cases, args.python, args.limit))
    print(measure.machine())


if __name__ == "__main__":
    main()
