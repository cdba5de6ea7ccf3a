"""What the sections of the report share: tables in, Markdown out."""

import pandas as pd
import study

DOCS = study.HERE.parent / "docs"
IMAGES = "images/reproduction"
LEARNERS = {"linear_svm": "linear SVM", "logistic": "logistic", "ridge": "ridge", "rbf_svm": "RBF SVM"}
KINDS = ("mnist", "cifar10", "imagenette")


def table(name):
    """Return a table of the study, or None where its analysis has not been run."""
    path = study.TABLES / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else None


def have(stem, kinds=KINDS):
    """Return (data set, table) of the data sets that an analysis was run on."""
    return [(kind, found) for kind in kinds if (found := table(f"{stem}_{kind}")) is not None]


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def picture(name, words):
    return f"![{words}]({IMAGES}/{name}.png)\n\n*{words}*" if (DOCS / IMAGES / f"{name}.png").exists() else ""


def number(value, digits=3):
    return "—" if pd.isna(value) else f"{value:.{digits}g}".replace("-", "−")


def percent(value):
    return "—" if pd.isna(value) else f"{value:.0%}"


def interval(mid, low, high):
    return "—" if pd.isna(mid) else f"{mid:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")


def spread(values, digits=2):
    """Return median and 10-90 % range of some numbers."""
    low, mid, high = values.quantile([0.1, 0.5, 0.9])
    return f"{number(mid, digits)} [{number(low, digits)}, {number(high, digits)}]"


def claim(paper, published, ours, verdict):
    head = ["paper's claim", "published number", "our number", "verdict"]
    return markdown(head, [[paper, published, ours, verdict]])


def commands(*lines):
    return "```sh\n" + "\n".join(lines) + "\n```"


def of_pair(pair):
    return pair.split(":")[1]


def section(*parts):
    return "\n\n".join(part for part in parts if part)
