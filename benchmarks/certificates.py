"""Are the certificates honest? True errors against stated bounds on random problems; exit code 1 on any violation.

    python benchmarks/certificates.py                # 2,000 problems for every learner
    python benchmarks/certificates.py --problems 50 --kinds hinge

For each problem an independent solution in extended precision (`references.py`) gives w*, b*, the triggered loss and
the slope. Checked: |w - w*| <= bound, |b - b*| <= intercept_bound, |loss - loss*| <= loss_bound and
|slope - slope*| <= error_bound; and wherever no sample sits near a kink, that the slope is right to 1e-5 whether or not
it came with a bound (last column). The table shows the largest and the median ratio of true error to bound.
"""

import argparse
import sys
import time
import warnings

import numpy as np
from random_problems import KINDS, random_case
from references import LD, NoReference, kernel_matrix, reference

import learningcurves as lc
from learningcurves.errors import LearningCurvesError

CHECKS = ("weights", "intercept", "loss", "slope", "value")


def _weight_error(point, truth, objective, problem):
    if objective.kernel is None:
        coef = np.atleast_2d(point.coef).astype(LD)
        return float(np.sqrt(np.sum((coef - truth.coef.T) ** 2)))
    X = np.vstack([problem.X_clean, problem.X_backdoor]).astype(LD)
    difference = point.dual_coef.astype(LD) - truth.dual
    return float(np.sqrt(max(LD(0), difference @ kernel_matrix(objective.kernel, X, X) @ difference)))


def _intercept_error(point, truth):
    b = np.atleast_1d(point.intercept).astype(LD)
    low, high = (np.atleast_1d(end) for end in truth.interval)
    if low.shape == b.shape and not np.all(low == high):  # a hinge intercept that is an interval
        return float(np.max(np.maximum(np.maximum(low - b, b - high), 0)))
    return float(np.sqrt(np.sum((b - truth.intercept) ** 2)))


def examine(seed, kind):
    """Return {check: (true error, bound)} of one random problem, with its statuses; None without a reference."""
    problem, learner, beta = random_case(seed, kind)
    objective = learner.objective(problem.X_clean)
    try:
        truth = reference(problem, objective, beta)
    except NoReference as reason:
        return {"reference": str(reason)}
    curve = lc.learning_curve(learner, problem, [beta])
    point = curve.point(0)
    found = {"status": point.status}
    if not point.status.ok:
        return found
    # what the reference itself may be off by is not held against the package (some 2,000 times less than a bound)
    own, reach = truth.accuracy, truth.accuracy * (1.0 + float(np.abs(curve.path.feature_norms(problem.X_clean)).max()))
    found["weights"] = _weight_error(point, truth, objective, problem) - own, point.bound
    unique = np.isfinite(point.certificate.intercept_bound)
    if unique:
        found["intercept"] = _intercept_error(point, truth) - reach, point.certificate.intercept_bound
        found["loss"] = float(abs(LD(point.loss_triggered) - truth.loss)) - reach, point.loss_bound
    try:
        slope = lc.backdoor_slope(learner, problem, at=beta)
    except LearningCurvesError as error:
        found["slope status"] = str(error)
        return found
    found["slope status"] = slope.status
    if slope.status.ok and truth.margin > 1e-7 and np.isfinite(float(truth.slope)):  # far from every kink
        allowed = 1e-5 * abs(float(truth.slope)) + 1e-6 * (1.0 + float(truth.loss))
        found["value"] = float(abs(LD(slope.value) - truth.slope)), allowed
    if slope.status.ok and np.isfinite(slope.error_bound) and np.isfinite(float(truth.slope)):
        found["slope"] = float(abs(LD(slope.value) - truth.slope)), slope.error_bound
    return found


def run(seeds, kinds, report=None):
    """Examine every seed and kind; returns (table rows, violations)."""
    rows, violations = [], []
    for kind in kinds:
        ratios = {name: [] for name in CHECKS}
        counts = {"no reference": 0, "not solved": 0, "no slope": 0}
        started = time.process_time()
        for seed in seeds:
            found = examine(seed, kind)
            if "reference" in found:
                counts["no reference"] += 1
                continue
            if not found["status"].ok:
                counts["not solved"] += 1
                continue
            counts["no slope"] += "slope" not in found
            for name in CHECKS:
                if name in found:
                    error, bound = found[name]
                    if not error <= bound:
                        violations.append((kind, seed, name, error, bound))
                    ratios[name].append(error / bound if bound > 0 else 0.0 if error <= 0 else np.inf)
        rows.append((kind, ratios, counts, time.process_time() - started))
        if report:
            report(rows[-1])
    return rows, violations


def _print_row(row):
    kind, ratios, counts, seconds = row
    cells = [f"{kind:14s}"]
    for name in CHECKS:
        r = np.array(ratios[name])
        cells.append(f"{len(r):5d}  {r.max(initial=0.0):8.1e} {np.median(r) if len(r) else 0.0:8.1e}")
    print(" | ".join(cells), "|", ", ".join(f"{k} {v}" for k, v in counts.items()), f"| {seconds:.0f} s", flush=True)


def main():
    """Run the check from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2000, help="random problems for every learner (default 2000)")
    parser.add_argument("--first", type=int, default=0, help="first seed (default 0)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    head = " | ".join(f"{name + ': n, max, median':>23s}" for name in CHECKS)
    print(f"true error / bound   | {head}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, violations = run(range(options.first, options.first + options.problems), options.kinds, _print_row)
    for kind, seed, name, error, bound in violations[:40]:
        print(f"VIOLATION {kind} seed {seed}: {name} error {error:.3e} > bound {bound:.3e}")
    print(f"{len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
