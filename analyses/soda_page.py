"""Writes the tables of docs/defences.md from `analyses/tables`; nothing in them is typed by hand.

python analyses/soda_page.py
"""

import re

import numpy as np
import pandas as pd
import soda_other_words as others
import soda_study as soda
import soda_words as words
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
    """Shares of networks in words, the published offset; `separation` has both."""
    found = table("soda_detection")
    if found is None:
        return None
    found = found[found.offset == "constant"]
    cells = found.assign(
        text=[share(r) for r in found.itertuples()],
        order=found.kind.map({kind: i for i, kind in enumerate(soda.KINDS)}),
    )
    cells["place"] = cells.data.map({data: i for i, data in enumerate(soda.SIZES)})
    wide = cells.pivot(index=["place", "data", "order", "kind"], columns="event", values="text").reset_index()
    names = ["flagged", "flagged_calibrated", "target_right", "pair_right", "victim_of_target"]
    return wide[["data", "kind", *names]].fillna("")


def share(row):
    return f"{row.hits}/{row.n} [{row.low:.2f}, {row.high:.2f}]"


def ranged(name, column):
    """Return a table with a value and its interval in one column."""
    found = table(name)
    return None if found is None else with_ranges(found, column)


def with_ranges(found, name):
    said = [f"{v:.3g} [{low:.3g}, {high:.3g}]" for v, low, high in zip(found[name], found.low, found.high, strict=True)]
    return found.assign(**{name: said}).drop(columns=["low", "high"])


def defences():
    """Attacks by defences, with the intervals that the rates have."""
    found = table("soda_defences")
    if found is None:
        return None
    rows = []
    for r in found.itertuples():
        again = "" if pd.isna(r.again) else f"{value(r, 'again')} [{value(r, 'again_low')}, {value(r, 'again_high')}]"
        rows.append({"data": r.data, **in_words(r), "ASR after 5 poisons": again})
    return pd.DataFrame(rows)


def in_words(r):
    """Return a row of analyses 12 and 28 as cells of a table."""
    rates = {n.upper(): "failed" for n in ("asr", "acc", "ra")}
    if r.seeds:
        rates = {
            n.upper(): f"{value(r, n)} [{value(r, n + '_low')}, {value(r, n + '_high')}]" for n in ("asr", "acc", "ra")
        }
    slopes = {"slope before": number(r.slope_before), "after": number(r.slope)}
    again = "" if pd.isna(r.most_tried) else words.poisons(r)
    return {
        "attack": r.attack,
        "defence": r.defence,
        "networks": r.seeds,
        **rates,
        **slopes,
        "poisons to re-learn": again,
    }


def stamped():
    """Stamped attacks on larger networks, from the table of analysis 12."""
    found = table("defences")
    if found is None:
        return None
    found = found.assign(failed=0, poisons_least=found.poisons_to_relearn, poisons_most=found.poisons_to_relearn)
    found = found.fillna({name: np.inf for name in ("poisons_to_relearn", "poisons_least", "poisons_most")})
    return pd.DataFrame([{"data": r.data, **in_words(r)} for r in found.itertuples()])


def value(row, name):
    return f"{getattr(row, name):.2f}"


def number(x):
    return "" if pd.isna(x) else f"{x:.3g}"


def rescaling():
    found = table("soda_rescaling_spread")
    if found is None:
        return None
    groups = found.groupby(["data", "kind", "offset", "how"], sort=False)
    summary = groups[["index_true_min", "index_true_median", "index_true_max"]].median()
    summary[["target_right", "flagged"]] = groups[["target_right", "flagged"]].mean()
    summary["output_change"] = groups.output_change.max()
    return summary.reset_index()


def with_words(found, said_of):
    """Return a table in Markdown below what it says."""
    return None if found is None else f"{said_of(found)}\n\n{soda.markdown(found)}"


def pictures():
    """Return the pictures that are there."""
    named = {
        "soda_index": "Smallest index of every network, by kind of training",
        "soda_report": "Report of the first over-sampled network on coloured MNIST, as report.plot() draws it",
    }
    there = [n for n in named if (PAGE.parent / "images" / "defences" / f"{n}.png").exists()]
    return "\n\n".join(f"{named[n]}:\n\n![{named[n]}](images/defences/{n}.png)" for n in there) or None


def relearning():
    """Return the picture of analysis 28, where it is there."""
    there = sorted((PAGE.parent / "images" / "defences").glob("soda_relearn_*.png"))
    alt = "ASR after re-training on a few poisons, mean over networks"
    return "\n\n".join(f"![{alt}](images/defences/{path.name})" for path in there) or None


def sizes():
    """Return what each name of images stands for, as far as it was run."""
    found = table("soda_attacks")
    if found is None:
        return None
    names = [name for name in soda.SIZES if name in set(found.data)]
    facts = [{k: "all" if v is None else str(v) for k, v in soda.SIZES[name].items()} for name in names]
    rows = [{"data": name, "what": soda.WORDS[name], **f} for name, f in zip(names, facts, strict=True)]
    return pd.DataFrame(rows).rename(columns={"n": "images", "n_test": "test images"})


PARTS = {
    "short": lambda: words.short(table),
    "findings": lambda: words.findings(table),
    "null": null,
    "sizes": sizes,
    "attacks": lambda: table("soda_attacks"),
    "detection": detection,
    "separation": lambda: ranged("soda_separation", "auc"),
    "pictures": pictures,
    "repairs": lambda: table("soda_repairs"),
    "slopes": lambda: ranged("soda_slopes", "ratio"),
    "link": lambda: ranged("soda_link", "rank_correlation"),
    "defences": defences,
    "hidden": lambda: words.hidden(table),
    "stamped": stamped,
    "relearning": relearning,
    "neurons": lambda: with_words(table("soda_neurons_by_score"), others.neurons),
    "layers": lambda: with_words(table("soda_layers_mean"), others.layers),
    "imbalance": lambda: with_words(table("soda_imbalance_mean"), others.imbalance),
    "adaptive": lambda: with_words(table("soda_adaptive_mean"), others.adaptive),
    "rescaling": lambda: with_words(rescaling(), others.rescaling),
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
