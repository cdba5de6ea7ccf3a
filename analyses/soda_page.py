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
    groups = found.groupby(["data", "kind", "offset", "how"], sort=False)
    summary = groups[["index_true_min", "index_true_median", "index_true_max"]].median()
    summary[["target_right", "flagged"]] = groups[["target_right", "flagged"]].mean()
    summary["output_change"] = groups.output_change.max()
    return summary.reset_index()


def pictures():
    """Return the pictures that are there."""
    named = {
        "soda_index": "Smallest index of every network, by kind of training",
        "soda_report": "Report of the first over-sampled network, as report.plot() draws it",
    }
    there = [n for n in named if (PAGE.parent / "images" / "defences" / f"{n}.png").exists()]
    return "\n\n".join(f"{named[n]}:\n\n![{named[n]}](images/defences/{n}.png)" for n in there) or None


def findings():
    """Say what the tables say, in their numbers."""
    found, repairs = table("soda_detection"), table("soda_repairs")
    if found is None or repairs is None:
        return None
    lines = []
    for data, group in found[found.offset == "constant"].groupby("data", sort=False):
        hits = {(r.kind, r.event): f"{r.hits} of {r.n}" for r in group.itertuples()}
        lines.append(
            f"- **{data}, detection.** At the published threshold {hits['oversampled', 'flagged']} over-sampled networks are "
            f"flagged, {hits['flip', 'flagged']} with plain relabelling, and {hits['clean', 'flagged']} clean ones; at the "
            f"calibrated threshold {hits['oversampled', 'flagged_calibrated']}, {hits['flip', 'flagged_calibrated']} and "
            f"{hits['clean', 'flagged_calibrated']}. The target comes first in {hits['oversampled', 'target_right']} "
            f"over-sampled networks, in {hits['flip', 'target_right']} with plain relabelling, and in "
            f"{hits['over-represented', 'target_right']} *clean* networks in which that class was over-represented."
        )
        rows = repairs[repairs.data == data].set_index(["kind", "repair"])
        before = rows.loc["oversampled", "none"]
        said = [
            f"{name} SR {row.sr:.2f}, ACC {row.acc:.2f}, RA {row.ra:.2f}"
            for name, row in rows.loc["oversampled"].iterrows()
            if name != "none"
        ]
        lines.append(
            f"- **{data}, repair** of over-sampled networks (SR {before.sr:.2f}, ACC {before.acc:.2f}, RA {before.ra:.2f} "
            f"before): {'; '.join(said)}."
        )
        same = [n for n in ("last_layer", "last layer anew") if ("oversampled", n) in rows.index]
        if same:
            change = max(abs(rows.loc[("oversampled", n), "slope"] / before.slope - 1) for n in same)
            lines.append(
                f"- **{data}, slope.** Repairs of the last layer change the last-layer slope by {100 * change:.1g} %: it is taken "
                "at the minimum over the features, which they leave as they were. They take the backdoor out of the head; "
                "learning it again from the same features is as easy as before."
            )
    return "\n".join(lines)


PARTS = {
    "findings": findings,
    "null": null,
    "detection": detection,
    "pictures": pictures,
    "repairs": lambda: table("soda_repairs"),
    "neurons": lambda: table("soda_neurons_by_score"),
    "layers": lambda: table("soda_layers_mean"),
    "imbalance": lambda: table("soda_imbalance_mean"),
    "adaptive": lambda: table("soda_adaptive_mean"),
    "rescaling": rescaling,
    "stamps": lambda: table("soda_stamps_by_detector"),
}


def main():
    text = PAGE.read_text()
    for name, make in PARTS.items():
        found = make()
        found = "*Not yet run.*" if found is None else found if isinstance(found, str) else soda.markdown(found)
        text, count = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>\n{found}\n\n\g<2>", text, flags=re.S)
        if count != 1:
            raise SystemExit(f"{PAGE.name} has {count} places for the table {name!r}")
    write_atomic(PAGE, text.encode())
    print(PAGE)


if __name__ == "__main__":
    main()
