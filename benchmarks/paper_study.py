"""The MNIST 7-1 study of the paper, by this package and by one scikit-learn fit per beta.

    python benchmarks/paper_study.py                  # 21 beta, default tolerances, 1 thread
    python benchmarks/paper_study.py --threads 2
    python benchmarks/paper_study.py --beta 101 --repeats 1
    python benchmarks/paper_study.py --tight          # scikit-learn tightened until it reaches 1e-6
    python benchmarks/paper_study.py --profile --only logistic   # where our CPU time goes

Curves with deviation: linear SVM, logistic, ridge, RBF SVM (two gamma), two lambda each, p = 0.01, 0.1, 0.2, 6x6
trigger. Slopes (with BK and clean accuracy at beta = 1): 10 C, 5 seeds, 3x3 trigger.
"""

import argparse
import cProfile
import pstats
import time
from pathlib import Path
from typing import Any

import measure
import naive
import numpy as np

import learningcurves as lc
from learningcurves.curves.curve import DEFAULT_BETA

FRACTIONS, SEEDS, CS = (0.01, 0.1, 0.2), (1, 10, 11, 100, 101), tuple(np.geomspace(1e-4, 1e3, 10))
CURVES = {  # name: learner, scikit-learn's model, gamma, lambda
    "linear SVM": (lc.LinearSVM(penalize_intercept=True), naive.LINEAR_SVC, None, (0.1, 100.0)),
    "logistic": (lc.Logistic(), naive.LOGISTIC, None, (0.01, 10.0)),
    "ridge": (lc.Ridge(), naive.RIDGE, None, (0.5, 500.0)),
    "RBF SVM 5e-4": (lc.KernelSVM(gamma=5e-4), naive.SVC_RBF, 5e-4, (0.01, 1.0)),
    "RBF SVM 5e-3": (lc.KernelSVM(gamma=5e-3), naive.SVC_RBF, 5e-3, (0.01, 1.0)),
}
SLOPES = {
    "slopes SVM": (lc.LinearSVM(), naive.SVC_LINEAR, None, tuple(1.0 / c for c in CS)),
    "slopes logistic": (lc.Logistic(), naive.LOGISTIC, None, tuple(1.0 / c for c in CS)),
    "slopes ridge": (lc.Ridge(), naive.RIDGE, None, tuple(0.5 / c for c in CS)),
    "slopes RBF SVM": (lc.KernelSVM(gamma=5e-3), naive.SVC_RBF, 5e-3, tuple(np.geomspace(1e-3, 10, 10))),
}
TIGHT = {"linear SVM": 1e-6, "logistic": 1e-6}  # first tolerances tried; each falls by 10 until the loss is right


def problems(seeds, fractions, size):
    data = lc.load_mnist_pair(7, 1, draw="paper")
    return {
        (seed, p): lc.poison(
            data, lc.RandomPatch(size=size, seed=seed, draw="paper"), fraction=p, seed=seed, draw="paper"
        )
        for seed in seeds
        for p in fractions
    }


def betas(n):
    return np.array(DEFAULT_BETA) if n == 21 else np.linspace(0.0, 1.0, n)


def warm_up():
    data = lc.load_digits_pair(7, 1)
    problem = lc.poison(data, lc.RandomPatch(size=2, seed=1), fraction=0.1, seed=1)
    for learner, kind, gamma, regs in CURVES.values():
        lc.learning_curve(learner, problem, [0.0, 1.0], reg=regs[1])
        naive.curve(kind, problem, regs[1], [0.0, 1.0], gamma=gamma)


def ours(n_beta, names, fractions):
    clock, worst, losses = measure.Clock(), {}, {}
    curves, slopes = problems((999,), fractions, 6), problems(SEEDS, (0.1,), 3)
    warm_up()
    for name in names:
        learner, _, _, regs = (CURVES | SLOPES)[name]
        residual, losses[name] = 0.0, []
        for problem in (curves if name in CURVES else slopes).values():
            beta = betas(n_beta) if name in CURVES else [0.0, 1.0]
            with clock.timed(name):
                found = lc.learning_curve(learner, problem, beta, reg=regs)
                if name in SLOPES:
                    _ = [c.slope for c in found]
            with clock.timed(f"{name}, slopes"):  # of a curve at every beta: solved for when read
                _ = [c.slope for c in found]
            residual = max(residual, *(c.residual.max() for c in found))
            losses[name] += [c.loss_triggered.tolist() if name in CURVES else c.slope[0] for c in found]
        worst[name] = residual
    measure.report(clock, residual=worst, losses=losses)


def theirs(n_beta, names, fractions, tols):
    clock, losses = measure.Clock(), {}
    curves, slopes = problems((999,), fractions, 6), problems(SEEDS, (0.1,), 3)
    warm_up()
    for name in names:
        _, kind, gamma, regs = (CURVES | SLOPES)[name]
        losses[name], tol = [], tols.get(name)
        for problem in (curves if name in CURVES else slopes).values():
            for reg in regs:
                with clock.timed(name):
                    if name in CURVES:
                        found = naive.curve(kind, problem, reg, betas(n_beta), gamma=gamma, tol=tol)
                    else:  # the slope at 0, and the accuracies of the poisoned model
                        found = naive.slope(kind, problem, reg, gamma=gamma)
                        naive.curve(kind, problem, reg, [1.0], gamma=gamma)
                losses[name].append(found["loss_triggered"].tolist() if name in CURVES else found)
    measure.report(clock, losses=losses)


def _difference(name, a, b):
    """Largest relative difference of the triggered losses (or slopes)."""
    a, b = np.array(a["losses"][name], dtype=float), np.array(b["losses"][name], dtype=float)
    return np.nanmax(np.abs(a - b) / np.maximum(np.abs(b), 1e-12))


def compare(args):
    names = list(CURVES) if args.part == "curves" or args.beta != 21 else [*CURVES, *SLOPES]
    names = list(SLOPES) if args.part == "slopes" else names
    names = list(TIGHT) if args.tight else names
    names = [n for n in names if not args.only or args.only in n]
    tols = {}
    if args.tight:
        tols = _tight_enough(args, names)
        print("tolerances reaching 1e-6:", tols)
    common = [args.beta, ",".join(names), args.fractions]
    found = measure.in_turn(
        __file__,
        {"ours": ["ours", *common], "naive": ["naive", *common, *(f"{k}={v}" for k, v in tols.items())]},
        threads=args.threads,
        repeats=args.repeats,
    )
    a, b = found["ours"], found["naive"]
    rows = []
    for name in names:
        x, z = a["parts"][name], b["parts"][name]
        rows.append(
            [name, f"{z['cpu']:.2f}", f"{x['cpu']:.2f}", f"**{z['cpu'] / x['cpu']:.1f}**", f"{z['wall']:.2f}"]
            + [f"{x['wall']:.2f}", f"{a['residual'][name]:.0e}", f"{_difference(name, b, a):.0e}"]
            + [f"{a['parts'][f'{name}, slopes']['cpu']:.2f}"]
        )
    groups = {"all RBF SVM": [n for n in CURVES if "RBF" in n], "all curves": list(CURVES), "everything": names}
    for group, members in groups.items():
        members = [n for n in members if n in names]
        if len(members) > 1:
            z, x = measure.total(b, parts=members), measure.total(a, parts=members)
            walls = [f"{measure.total(r, 'wall', members):.2f}" for r in (b, a)]
            slopes = measure.total(a, parts=[f"{n}, slopes" for n in members])
            rows.append([group, f"{z:.2f}", f"{x:.2f}", f"**{z / x:.1f}**", *walls, "", "", f"{slopes:.2f}"])
    header = ["", "scikit-learn CPU s", "ours CPU s", "ratio", "wall s", "ours wall s", "our residual", "their error"]
    header.append("slopes at every beta, CPU s more")
    print(
        measure.machine(),
        f"; {args.beta} beta, {args.threads} thread(s), medians of {args.repeats}, p = {args.fractions}",
        sep="",
    )
    print(measure.table(header, rows))
    print(f"peak memory: scikit-learn {b['peak']:.0f} MiB, ours {a['peak']:.0f} MiB")


def profile(args):
    """Share of our CPU time by function, own time, of five runs after a first."""
    for name, (learner, _, _, regs) in CURVES.items():
        if args.only and args.only not in name:
            continue
        problem = problems((999,), (0.1,), 6)[999, 0.1]
        lc.learning_curve(learner, problem, betas(args.beta), reg=regs)
        watch = cProfile.Profile(time.process_time)
        for _ in range(5):
            watch.runcall(lc.learning_curve, learner, problem, betas(args.beta), reg=regs)
        found: Any = pstats.Stats(watch)
        total = found.total_tt
        rows = [
            [f"{Path(file).name}:{line} {function}", f"{own / 5 * 1e3:.1f}", f"{own / total:.0%}", calls // 5]
            for (file, line, function), (_, calls, own, _, _) in found.stats.items()
        ]
        rows.sort(key=lambda row: -float(row[1]))
        print(f"{measure.machine()}; {name}, p = 0.1, {args.beta} beta: {total / 5 * 1e3:.0f} ms, profile included")
        print(measure.table(["function", "own ms", "share", "calls"], rows[:15]))


def _tight_enough(args, names):
    """Tighten each learner's `tol` by tens until its losses are within 1e-6 of the certified ones."""
    tols = {}
    truth = measure.run(__file__, ["ours", args.beta, ",".join(names), args.fractions])
    for name in names:
        tol = TIGHT[name]
        for _ in range(6):
            found = measure.run(__file__, ["naive", args.beta, name, args.fractions, f"{name}={tol}"])
            if _difference(name, found, truth) <= 1e-6:
                break
            tol /= 10.0
        tols[name] = tol
    return tols


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beta", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tight", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--part", choices=("all", "curves", "slopes"), default="all")
    parser.add_argument("--fractions", default=",".join(map(str, FRACTIONS)), help="p of the curves")
    parser.add_argument("--only", help="rows whose name contains this")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.child:
        return profile(args) if args.profile else compare(args)
    side, n_beta, names, fractions, *tols = args.child
    names, fractions = names.split(","), tuple(map(float, fractions.split(",")))
    if side == "ours":
        return ours(int(n_beta), names, fractions)
    return theirs(int(n_beta), names, fractions, {k: float(v) for k, v in (t.split("=") for t in tols)})


if __name__ == "__main__":
    main()
