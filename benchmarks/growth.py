"""Growth of time and memory with n, d, the number of beta and of lambda; and three large problems.

    python benchmarks/growth.py                 # exponents
    python benchmarks/growth.py --large         # 60,000 x 784 x 10 softmax, sparse 100,000 x 50,000, RBF n = 20,000

Every point is a process of its own. An exponent is the slope of log time over log size between the sizes given
(least squares); memory is the peak beyond the process before the call.
"""

import argparse

import measure
import numpy as np

LEARNERS = ("logistic", "ridge", "linear SVM", "RBF SVM")
BASE = {"n": 1_000, "d": 200, "beta": 21, "reg": 1}
AXES = {  # axis: sizes, and what the algorithm promises at most (docs/theory.md) for the learners in turn
    "n": ((500, 1_000, 2_000, 4_000), {"logistic": 1, "ridge": 1, "linear SVM": 2, "RBF SVM": 2}),
    "d": ((100, 200, 400), {"logistic": 3, "ridge": 3, "linear SVM": 1, "RBF SVM": 1}),
    "beta": ((11, 41, 161), dict.fromkeys(LEARNERS, 1)),
    "reg": ((1, 4, 16), dict.fromkeys(LEARNERS, 1)),
}
LARGE = ("softmax 60000x784x10", "softmax slope 60000x784x10", "sparse logistic 100000x50000", "RBF SVM n=20000")


def make_problem(n, d, seed=0):
    """Two overlapping classes in d dimensions; a tenth of the samples stamped on the last eight features."""
    import learningcurves as lc

    rng = np.random.default_rng(seed)
    w = rng.normal(size=d) / np.sqrt(d)

    def draw(k):
        X = rng.normal(size=(k, d))
        return X, (X @ w + 0.5 * rng.normal(size=k) > 0).astype(int)

    def stamp(X, y):
        X = X.copy()
        X[:, -8:] = 2.0
        return X, 1 - y

    clean, test = draw(n - n // 10), draw(500)
    return lc.BackdoorProblem(*clean, *stamp(*draw(n // 10)), *test, *stamp(*test))


def make_learner(name, d):
    import learningcurves as lc

    return {
        "logistic": lambda: lc.Logistic(reg=1.0),
        "ridge": lambda: lc.Ridge(reg=1.0),
        "linear SVM": lambda: lc.LinearSVM(reg=30.0),
        "RBF SVM": lambda: lc.KernelSVM(reg=1.0, gamma=0.2 / d),
    }[name]()


def point(name, n, d, n_beta, n_reg):
    import learningcurves as lc

    problem, learner = make_problem(n, d), make_learner(name, d)
    lc.learning_curve(make_learner(name, 20), make_problem(200, 20), [0.0, 1.0])
    before, best = measure.peak_memory(), None
    regs = learner.reg if n_reg == 1 else (learner.reg * np.geomspace(1.0, 100.0, n_reg)).tolist()
    for _ in range(2):
        clock = measure.Clock()
        with clock.timed("curve"):
            found = lc.learning_curve(learner, problem, np.linspace(0.0, 1.0, n_beta), reg=regs)
        best = clock if best is None or clock.parts["curve"]["cpu"] < best.parts["curve"]["cpu"] else best
    curves = [found] if n_reg == 1 else found
    measure.report(best, residual=max(c.residual.max() for c in curves), before=before)


def sparse_problem(n=100_000, d=50_000, per_row=60, seed=0):
    """Text-like rows: Zipf-distributed words, tf-idf-like values; a rare word as trigger."""
    import scipy.sparse as sp

    import learningcurves as lc

    rng = np.random.default_rng(seed)
    shift = rng.permutation(d)

    def draw(k):
        y = rng.integers(0, 2, k)
        words = np.minimum((d ** rng.random((k, per_row))).astype(int), d - 1)
        topical = rng.random((k, per_row)) < 0.2
        words = np.where(topical & (y[:, None] == 1), shift[words], words)
        values = rng.random((k, per_row)) + 0.2
        X = sp.csr_matrix((values.ravel(), words.ravel(), np.arange(0, k * per_row + 1, per_row)), shape=(k, d))
        X.sum_duplicates()
        norm = np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel())
        return sp.csr_matrix(sp.diags(1.0 / norm) @ X), y

    def stamp(X, y):
        trigger = sp.csr_matrix(
            (np.full(X.shape[0], 0.5), (np.arange(X.shape[0]), np.full(X.shape[0], d - 2))), X.shape
        )
        return sp.csr_matrix(X + trigger), 1 - y

    clean, test = draw(n - n // 20), draw(2_000)
    return lc.BackdoorProblem(*clean, *stamp(*draw(n // 20)), *test, *stamp(*test))


def large(case):
    import learningcurves as lc

    if "softmax" in case:
        data = lc.load_mnist()
        problem = lc.poison(data, lc.RandomPatch(size=3, seed=1), fraction=0.05, seed=1, mode="add")
        learner, beta = lc.Softmax(reg=100.0), [0.0, 0.1, 0.3, 1.0]
    elif "sparse" in case:
        problem, learner, beta = sparse_problem(), lc.Logistic(reg=1.0), [0.0, 0.1, 0.3, 1.0]
    else:
        problem, learner, beta = make_problem(20_000, 100), lc.KernelSVM(reg=1.0, gamma=0.002), [0.0, 0.1, 0.3, 1.0]
    before, clock = measure.peak_memory(), measure.Clock()
    with clock.timed("curve"):
        found = lc.backdoor_slope(learner, problem) if "slope" in case else lc.learning_curve(learner, problem, beta)
    residual = found.residual if "slope" in case else float(found.residual.max())
    measure.report(clock, residual=residual, before=before)


def exponents(args):
    rows = []
    for axis, (sizes, promised) in AXES.items():
        for name in LEARNERS:
            if args.only not in name:
                continue
            results = []
            for size in sizes:
                at = BASE | {axis: size}
                results.append(
                    measure.run(__file__, [name, at["n"], at["d"], at["beta"], at["reg"]], threads=args.threads)
                )
            cpu = [r["parts"]["curve"]["cpu"] for r in results]
            memory = [max(r["peak"] - r["before"], 1.0) for r in results]
            rows.append(
                [axis, name, ", ".join(map(str, sizes)), ", ".join(f"{t:.3f}" for t in cpu)]
                + [f"{measure.exponent(sizes, cpu):.2f}", promised[name], ", ".join(f"{m:.0f}" for m in memory)]
                + [f"{max(r['residual'] for r in results):.0e}"]
            )
            print(*rows[-1], sep=" | ", flush=True)
    print(measure.machine(), f"; {args.threads} thread(s); otherwise n=1000, d=200, 21 beta, 1 lambda", sep="")
    header = ["axis", "learner", "sizes", "CPU s", "exponent", "at most", "MiB beyond the data", "residual"]
    print(measure.table(header, rows))


def large_table(args):
    rows = []
    for case in LARGE:
        if args.case not in case:
            continue
        try:
            r = measure.run(__file__, ["large", case], threads=args.threads, timeout=args.timeout)
            spent = r["parts"]["curve"]
            rows.append([case, f"{spent['cpu']:.0f}", f"{spent['wall']:.0f}", f"{r['before']:.0f}", f"{r['peak']:.0f}"])
            rows[-1].append(f"{r['residual']:.0e}")
        except Exception as error:
            rows.append([case, "", "", "", "", str(error).strip().splitlines()[-1][:100]])
        print(*rows[-1], sep=" | ", flush=True)
    print(measure.machine(), f"; {args.threads} thread(s)", sep="")
    print(measure.table(["case", "CPU s", "wall s", "MiB with the data", "peak MiB", "residual"], rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--case", default="", help="large problems whose name contains this")
    parser.add_argument("--only", default="", help="learners whose name contains this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=1_200.0)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, *sizes = args.child
        return large(sizes[0]) if name == "large" else point(name, *map(int, sizes))
    return large_table(args) if args.large else exponents(args)


if __name__ == "__main__":
    main()
