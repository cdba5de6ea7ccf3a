"""The slope at a given optimum: this package, plain NumPy, and the influence libraries that are installed.

    python benchmarks/slopes.py
    python benchmarks/slopes.py --case logistic-1500        # one case
    python benchmarks/slopes.py --only pydvl                 # one library
    python benchmarks/slopes.py --python /path/to/python    # an environment with pyDVL, dattri, curvlinops, torch

All methods get the same exact minimiser w and return dL/dbeta at beta = 0. The intercept is a constant feature and is
penalised, so that all solve the same system. Every method runs in a process of its own; the time leaves out imports
and loading. "products" are the matrix products that the answer cannot avoid: the cheaper of X'DX (with one gradient)
and, for plain CG, of the products it took to 1e-11.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import measure
import numpy as np

CASES = {  # name: samples, lambda
    **{f"logistic-1500 reg={reg:g}": ("pair", 1_500, reg) for reg in (0.01, 1.0, 100.0)},
    **{f"logistic-10000 reg={reg:g}": ("pair", 10_000, reg) for reg in (0.01, 1.0, 100.0)},
    **{f"softmax-10000x512x10 reg={reg:g}": ("head", 10_000, reg) for reg in (0.1, 10.0)},
}
METHODS = ("ours", "cholesky", "cg", "products", "pydvl direct", "pydvl cg", "dattri explicit", "curvlinops cg")
NEEDS = {"pydvl": "pydvl", "dattri": "dattri", "curvlinops": "curvlinops"}


# %% the problems


def make_problem(kind, n):
    """MNIST 7-1, or all digits through a fixed random ReLU layer of 511 features; a constant feature added."""
    import learningcurves as lc

    trigger = lc.RandomPatch(size=3, seed=1, draw="paper")
    if kind == "pair":
        data = lc.load_mnist_pair(7, 1, n_train=n, n_test=500)
    else:
        data = lc.load_mnist(n_train=n, n_test=1_000)
    problem = lc.poison(data, trigger, fraction=0.1, seed=1, mode="add")
    W = np.random.default_rng(0).normal(size=(784, 511)) / 10.0

    def features(X):
        X = X if kind == "pair" else np.maximum(X @ W, 0.0)
        return np.hstack([X, np.ones((len(X), 1))])

    names = ("clean", "backdoor", "test", "triggered")
    arrays = {f"X_{s}": features(getattr(problem, f"X_{s}")) for s in names}
    return arrays | {f"y_{s}": np.asarray(getattr(problem, f"y_{s}")) for s in names}


def prepare(case, folder):
    """Write the problem, its exact minimiser and the true slope."""
    import learningcurves as lc

    kind, n, reg = CASES[case]
    arrays = make_problem(kind, n)
    problem = lc.BackdoorProblem(**arrays)
    learner = (lc.Logistic if kind == "pair" else lc.Softmax)(reg=reg, fit_intercept=False)
    learner.fit(problem.X_clean, problem.y_clean)
    coef = np.atleast_2d(learner.coef_)
    truth = lc.backdoor_slope(learner, problem)  # certified, two solves, symmetrised
    path = Path(folder) / (case.replace(" ", "_").replace("=", "") + ".npz")
    np.savez(path, coef=coef, reg=reg, truth=truth.value, bound=truth.error_bound, **arrays)
    return path


# %% the methods: each takes the arrays and returns the slope


def by_ours(a):
    import warnings

    from sklearn.linear_model import LogisticRegression

    import learningcurves as lc

    problem = lc.BackdoorProblem(**{k: a[k] for k in a if k[:2] in ("X_", "y_")})
    model = LogisticRegression(C=1.0 / float(a["reg"]), fit_intercept=False)
    model.coef_, model.intercept_ = a["coef"], np.zeros(len(a["coef"]))
    model.classes_, model.n_features_in_ = np.unique(a["y_clean"]), a["coef"].shape[1]

    def solve():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return lc.backdoor_slope(model, problem).value

    return solve


def outer(scores, y, K):
    """Derivative of the loss in the scores, and class probabilities, shape (n, K)."""
    if K == 1:
        p = 1.0 / (1.0 + np.exp(-scores))
        return p - y[:, None], p
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p - np.eye(K)[y], p


def pieces(a):
    X, w, K = a["X_clean"], a["coef"].T, len(a["coef"])
    g_b = a["X_backdoor"].T @ outer(a["X_backdoor"] @ w, a["y_backdoor"], K)[0]
    g_t = a["X_triggered"].T @ outer(a["X_triggered"] @ w, a["y_triggered"], K)[0] / len(a["y_triggered"])
    return X, outer(X @ w, a["y_clean"], K)[1], g_b, g_t, float(a["reg"])


def hessian(X, p, reg):
    K, d = p.shape[1], X.shape[1]
    if K == 1:
        return X.T @ (X * (p * (1 - p))) + reg * np.eye(d)
    H = np.empty((K, d, K, d))
    for i in range(K):
        for j in range(i + 1):
            H[i, :, j] = X.T @ (X * (p[:, i] * ((i == j) - p[:, j]))[:, None])
            H[j, :, i] = H[i, :, j].T
    H = H.reshape(K * d, K * d)
    H[np.diag_indices_from(H)] += reg
    return H


def by_cholesky(a):
    from scipy.linalg import cho_factor, cho_solve

    def solve():
        X, p, g_b, g_t, reg = pieces(a)
        factor = cho_factor(hessian(X, p, reg), lower=True, overwrite_a=True, check_finite=False)
        return -float(g_t.T.ravel() @ cho_solve(factor, g_b.T.ravel(), check_finite=False))

    return solve


def plain_cg(X, p, reg, rhs, rtol=1e-11, max_steps=20_000):
    def product(v):
        f = X @ v
        f = p * (1 - p) * f if p.shape[1] == 1 else p * f - p * (p * f).sum(axis=1, keepdims=True)
        return X.T @ f + reg * v

    x, r = np.zeros_like(rhs), rhs.copy()
    q, rr, goal = r.copy(), float(np.vdot(r, r)), rtol**2 * float(np.vdot(rhs, rhs))
    for step in range(max_steps):  # noqa: B007
        if rr <= goal:
            break
        Hq = product(q)
        alpha = rr / float(np.vdot(q, Hq))
        x += alpha * q
        r -= alpha * Hq
        rr, before = float(np.vdot(r, r)), rr
        q = r + rr / before * q
    return x, step


def by_cg(a):
    def solve():
        X, p, g_b, g_t, reg = pieces(a)
        return -float(np.vdot(g_t, plain_cg(X, p, reg, g_b)[0]))

    return solve


def by_products(a):
    """Time of X'DX as BLAS does it at best (syrk): no answer."""
    from scipy.linalg.blas import dsyrk

    def solve():
        X, p, *_ = pieces(a)
        K = p.shape[1]
        scaled = X * np.sqrt(p[:, :1] * (1 - p[:, :1]))
        for _ in range(K * (K + 1) // 2):
            dsyrk(1.0, scaled.T, lower=1)
        return float("nan")

    return solve


# %% libraries


def torch_parts(a):
    import torch

    torch.set_default_dtype(torch.float64)
    K, d = a["coef"].shape
    model = torch.nn.Linear(d, K, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.as_tensor(np.array(a["coef"])))

    def loss(output, target):  # a sum, as in J
        if K == 1:
            return torch.nn.functional.binary_cross_entropy_with_logits(
                output.ravel(), target.ravel().to(output.dtype), reduction="sum"
            )
        return torch.nn.functional.cross_entropy(output, target.ravel(), reduction="sum")

    sets = {
        s: (torch.as_tensor(np.array(a[f"X_{s}"])), torch.as_tensor(np.array(a[f"y_{s}"]))[:, None])
        for s in ("clean", "backdoor", "triggered")
    }
    return torch, model, loss, sets


def by_pydvl(a, how):
    torch, model, loss, sets = torch_parts(a)
    import pydvl.influence.torch as pit
    from torch.utils.data import DataLoader, TensorDataset

    reg = float(a["reg"])

    def solve():
        loader = DataLoader(TensorDataset(*sets["clean"]), batch_size=len(sets["clean"][0]))
        if how == "direct":
            found = pit.DirectInfluence(model, loss, reg)
        else:
            found = pit.CgInfluence(model, loss, reg, rtol=1e-11, atol=0.0, maxiter=5_000)
        values = found.fit(loader).influences(*sets["triggered"], *sets["backdoor"])
        return -float(values.sum(dim=1).mean())

    return solve


def by_dattri(a, how):  # its CG did not finish within two minutes here
    torch, model, loss, sets = torch_parts(a)
    from dattri.algorithm.influence_function import IFAttributorExplicit
    from dattri.task import AttributionTask
    from torch.utils.data import DataLoader, TensorDataset

    reg = float(a["reg"])

    def value(params, data):
        x, y = data
        x = x.reshape(-1, x.shape[-1])
        return loss(torch.func.functional_call(model, params, x), y)

    def loader(name):
        return DataLoader(TensorDataset(*sets[name]), batch_size=len(sets[name][0]))

    def solve():
        task = AttributionTask(value, model, model.state_dict())
        found = IFAttributorExplicit(task, regularization=reg)
        found.cache(loader("clean"))
        with torch.no_grad():
            scores = found.attribute(loader("backdoor"), loader("triggered"))
        return -float(scores.sum(dim=0).mean())

    return solve


def by_curvlinops(a, how):
    torch, model, loss, sets = torch_parts(a)
    from curvlinops import CGInverseLinearOperator, HessianLinearOperator
    from curvlinops.examples import IdentityLinearOperator
    from torch.nn import BCEWithLogitsLoss, CrossEntropyLoss

    reg, K = float(a["reg"]), len(a["coef"])

    def gradient(name):
        model.zero_grad()
        x, y = sets[name]
        loss(model(x), y).backward()
        return model.weight.grad.detach().ravel().clone()

    def solve():
        x, y = sets["clean"]
        y = y.to(x.dtype) if K == 1 else y.ravel()
        sum_loss = (BCEWithLogitsLoss if K == 1 else CrossEntropyLoss)(reduction="sum")
        parameters = list(model.parameters())
        H = HessianLinearOperator(model, sum_loss, parameters, [(x, y)], check_deterministic=False)
        identity = IdentityLinearOperator([tuple(p.shape) for p in parameters], x.device, x.dtype)
        inverse = CGInverseLinearOperator(
            H + reg * identity, eps=0, tolerance=1e-11, max_iter=5_000, max_tridiag_iter=1
        )
        solution = inverse @ gradient("backdoor")
        return -float(solution @ gradient("triggered")) / len(sets["triggered"][0])

    return solve


# %% measuring


def child(path, method, repeats):
    a = dict(np.load(path))
    name, _, how = method.partition(" ")
    makers = {"ours": by_ours, "cholesky": by_cholesky, "cg": by_cg, "products": by_products}
    if name in makers:
        solve = makers[name](a)
    else:
        solve = {"pydvl": by_pydvl, "dattri": by_dattri, "curvlinops": by_curvlinops}[name](a, how)
    before = measure.peak_memory()
    clocks, value = [], None
    for _ in range(repeats):
        clock = measure.Clock()
        with clock.timed("slope"):
            value = solve()
        clocks.append(clock)
    clock = min(clocks, key=lambda c: c.parts["slope"]["cpu"])
    measure.report(clock, value=value, before=before)


def missing(method, python):
    module = NEEDS.get(method.split()[0])
    if module is None:
        return False
    if python == sys.executable:
        return importlib.util.find_spec(module) is None
    import subprocess

    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode != 0


def compare(args):
    rows, absent = [], [m for m in METHODS if missing(m, args.python)]
    for m in absent:
        print(f"{m}: not installed here, left out (see benchmarks/README.md)")
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if args.case not in case:
                continue
            path = prepare(case, folder)
            truth = float(np.load(path)["truth"])
            plain = None
            for method in METHODS:
                if (
                    args.only not in method
                    or method in absent
                    or ("softmax" in case and method in ("pydvl direct", "dattri explicit"))
                ):
                    continue
                python = args.python if method.split()[0] in NEEDS else sys.executable
                repeats = (
                    1 if method.split()[0] in NEEDS or ("softmax" in case and method == "cholesky") else args.repeats
                )
                try:
                    r = measure.run(
                        __file__, [path, method, repeats], threads=args.threads, timeout=args.timeout, python=python
                    )
                except Exception as error:
                    words = "over the time limit" if "timed out" in str(error) else str(error).strip().splitlines()[-1]
                    rows.append([case, method, "", "", "", "", words[:90]])
                    continue
                cpu = r["parts"]["slope"]["cpu"]
                plain = cpu if method == "cholesky" else plain
                error = abs(abs(r["value"]) - abs(truth)) / abs(truth) if np.isfinite(r["value"]) else float("nan")
                rows.append(
                    [case, method, f"{cpu:.3f}", f"{r['parts']['slope']['wall']:.3f}"]
                    + ["" if plain is None else f"{cpu / plain:.2f}", f"{r['peak'] - r['before']:.0f}", f"{error:.0e}"]
                )
                print(*rows[-1], sep=" | ", flush=True)
    print(measure.machine(), f"; {args.threads} thread(s), least of {args.repeats}", sep="")
    header = ["case", "method", "CPU s", "wall s", "/ Cholesky", "MiB beyond the data", "relative error"]
    print(measure.table(header, rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="")
    parser.add_argument("--only", default="", help="methods whose name contains this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument("--python", default=sys.executable, help="interpreter with the libraries")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        path, *method, repeats = args.child
        return child(path, " ".join(method), int(repeats))
    compare(args)


if __name__ == "__main__":
    main()
