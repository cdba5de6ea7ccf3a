"""What the figure scripts share: options, tables, where pictures go."""

import argparse
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
TABLES = HERE.parent / "analyses" / "tables"
IMAGES = HERE.parent / "docs" / "images" / "reproduction"
DPI = 110  # pictures in the documentation; ask for --formats pdf for print


def options(question):
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of the tables")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--data", nargs="+", default=["mnist", "cifar10", "imagenette"], help="or digits")
    parser.add_argument("--formats", nargs="+", default=["png"], help="png, pdf, svg")
    return parser


def table(given, name):
    """Return a table, or None (said aloud) where its analysis has not been run."""
    path = Path(given.tables) / f"{name}.csv"
    if not path.exists():
        print(f"  no table {path}: skipped")
        return None
    return pd.read_csv(path)


def named(frame):
    """Return the table with a learner name that tells kernels apart, such as ``rbf_svm γ=0.005``."""
    gamma = frame.get("gamma", pd.Series(index=frame.index, dtype=float))
    label = [n if pd.isna(g) else f"RBF SVM, γ = {g:.3g}" for n, g in zip(frame.learner, gamma, strict=True)]
    return frame.assign(model=label)


def save(display, given, name):
    from learningcurves.plotting import save as write

    for path in write(getattr(display, "figure_", display), Path(given.out) / name, formats=given.formats, dpi=DPI):
        print(f"  {path} ({path.stat().st_size / 1024:.0f} kB)")


def short(pair):
    return pair.replace(":", "-")
