"""The published MNIST 7-1 accuracies, whole: 3 learners x 10 C x 5 seeds; exit code 1 if one is off by more than 0.004.

    python benchmarks/published.py --root DATA_FOLDER
    python benchmarks/published.py --learners ridge --rows 3 4

The tables and conventions are those of tests/curves/test_published.py, which checks a part of this on every run.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent.parent / part) for part in ("tests", "tests/curves")]

from helpers import paper  # noqa: E402
from test_published import ACCURACIES, C_ACCURACY, SEEDS, clean_accuracy, learner_of  # noqa: E402

import learningcurves as lc  # noqa: E402

ALLOWED = 0.004


def main():
    """Compare every row and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="the data folder with MNIST (default: the one the package finds)")
    parser.add_argument("--learners", nargs="+", choices=ACCURACIES, default=list(ACCURACIES))
    parser.add_argument("--rows", nargs="+", type=int, default=range(len(C_ACCURACY)), help="which C, 0 to 9")
    options = parser.parse_args()
    wrong = 0
    print("learner          C        backdoor accuracy     clean accuracy   seconds")
    for name in options.learners:
        for row in options.rows:
            started, (learner, _) = time.process_time(), learner_of(name, C_ACCURACY[row])
            curves = [lc.learning_curve(learner, paper(options.root, seed), [1.0]) for seed in SEEDS]
            found = np.mean([curve.bk[0] for curve in curves]), clean_accuracy(learner, options.root)
            expected = [column[row] for column in ACCURACIES[name]]
            off = max(abs(a - b) for a, b in zip(found, expected, strict=True)) > ALLOWED
            wrong += off
            cells = "     ".join(f"{a:.4f} ({b:.3f})" for a, b in zip(found, expected, strict=True))
            seconds = time.process_time() - started
            print(
                f"{name:10s} {C_ACCURACY[row]:10.3e}   {cells}   {seconds:5.1f}" + ("   OFF" if off else ""), flush=True
            )
    print(f"{wrong} rows off")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
