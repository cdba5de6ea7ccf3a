"""Writes the tables of docs/defences.md from `analyses/tables`; nothing in them is typed by hand.

python analyses/soda_page.py
"""

import re

import pandas as pd
import soda_study as soda
import study

from learningcurves.defences.soda_index import false_positive_rate, null_threshold
from learningcurves.storage import write_atomic

PAGE = study.HERE.parent / "docs" / "defences.md"


def null():
    columns = ("classes", "flagged at 2", "at 3", "at 3.5", "at 5", "threshold for 5 %", "for 1 %")
    rows = [
        [str(K), *(false_positive_rate(K, t) for t in (2, 3, 3.5, 5)), null_threshold(K, 0.05), null_threshold(K, 0.01)]
        for K in (5, 10, 20, 29, 43, 101)
    ]
    return pd.DataFrame(rows, columns=columns)


def table(name):
    path = study.TABLES / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else None


def detection():
    found = table("soda_detection")
    if found is None:
        return None
    cells = found.assign(
        text=[f"{r.hits}/{r.n} [{r.low:.2f}, {r.high:.2f}]" for r in found.itertuples()],
        order=found.kind.map({kind: i for i, kind in enumerate(soda.KINDS)}),
    )
    wide = cells.pivot(index=["data", "order", "kind", "offset"], columns="event", values="text").reset_index()
    return wide.drop(columns="order")[
        ["data", "kind", "offset", "flagged", "flagged_calibrated", "target_right", "pair_right"]
    ].fillna("")


def rescaling():
    found = table("soda_rescaling_spread")
    if found is None:
        return None
    columns = ["index_true_min", "index_true_median", "index_true_max", "target_right", "flagged"]
    summary = found.groupby(["data", "kind", "offset", "how"], sort=False)[columns].median()
    summary["output_change"] = found.groupby(["data", "kind", "offset", "how"], sort=False).output_change.max()
    return summary.reset_index()


PARTS = {
    "null": null,
    "detection": detection,
    "repairs": lambda: table("soda_repairs"),
    "neurons": lambda: table("soda_neurons_by_score"),
    "layers": lambda: table("soda_layers_mean"),
    "imbalance": lambda: table("soda_imbalance_mean"),
    "adaptive": lambda: table("soda_adaptive_mean"),
    "rescaling": rescaling,
}


def main():
    text = PAGE.read_text()
    for name, make in PARTS.items():
        found = make()
        body = "\n*Not yet run.*\n" if found is None else f"\n{soda.markdown(found)}\n"
        text, count = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{body}\n\g<2>", text, flags=re.S)
        if count != 1:
            raise SystemExit(f"{PAGE.name} has {count} places for the table {name!r}")
    write_atomic(PAGE, text.encode())
    print(PAGE)


if __name__ == "__main__":
    main()
