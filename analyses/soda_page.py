"""Writes the tables of docs/defences.md from `analyses/tables`; nothing in them is typed by hand.

python analyses/soda_page.py
"""

import re

import numpy as np
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
    words = [
        f"{v:.3g} [{low:.3g}, {high:.3g}]" for v, low, high in zip(found[name], found.low, found.high, strict=True)
    ]
    return found.assign(**{name: words}).drop(columns=["low", "high"])


def defences():
    """Attacks by defences, with the intervals that the rates have."""
    found = table("soda_defences")
    if found is None:
        return None
    rows = []
    for r in found.itertuples():
        again = "" if pd.isna(r.again) else f"{value(r, 'again')} [{value(r, 'again_low')}, {value(r, 'again_high')}]"
        rows.append({**in_words(r), "ASR after 5 poisons": again})
    return pd.DataFrame(rows)


def in_words(r):
    """Return a row of analyses 12 and 28 as cells of a table."""
    rates = {n.upper(): "failed" for n in ("asr", "acc", "ra")}
    if r.seeds:
        rates = {
            n.upper(): f"{value(r, n)} [{value(r, n + '_low')}, {value(r, n + '_high')}]" for n in ("asr", "acc", "ra")
        }
    slopes = {"slope before": number(r.slope_before), "after": number(r.slope)}
    again = "" if pd.isna(r.most_tried) else poisons(r)
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


def poisons(row):
    """Return median and range over networks, in words."""
    said = [
        f"{k:g}" if np.isfinite(k) else f"> {row.most_tried:g}"
        for k in (row.poisons_to_relearn, row.poisons_least, row.poisons_most)
    ]
    return said[0] if said[1] == said[2] else f"{said[0]} ({said[1]} to {said[2]})"


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


def relearning():
    """Return the picture of analysis 28, where it is there."""
    there = sorted((PAGE.parent / "images" / "defences").glob("soda_relearn_*.png"))
    words = "ASR after re-training on a few poisons, mean over networks"
    return "\n\n".join(f"![{words}](images/defences/{path.name})" for path in there) or None


def sizes():
    """Return what each name of images stands for, as far as it was run."""
    found = table("soda_attacks")
    if found is None:
        return None
    names = [name for name in soda.SIZES if name in set(found.data)]
    facts = [{k: "all" if v is None else str(v) for k, v in soda.SIZES[name].items()} for name in names]
    rows = [{"data": name, "what": soda.WORDS[name], **f} for name, f in zip(names, facts, strict=True)]
    return pd.DataFrame(rows).rename(columns={"n": "images", "n_test": "test images"})


def findings():
    """Say what the tables say, in their numbers."""
    names = ("attacks", "detection", "separation", "repairs", "slopes")
    found = {name: table(f"soda_{name}") for name in names}
    if any(part is None for part in found.values()):
        return None
    lines = []
    for data in found["attacks"].data.unique():
        part = {name: rows[rows.data == data] for name, rows in found.items()}
        lines += [
            said_of_detection(data, part),
            *said_of_repairs(data, part["repairs"]),
            *said_of_slopes(data, part["slopes"]),
        ]
    return "\n".join(f"- {line}" for line in lines)


def hidden():
    """Say which defences leave a network that is as hard to backdoor again as one that was never attacked."""
    found = table("soda_defences")
    if found is None:
        return None
    lines = []
    for attack, group in found[found.seeds > 0].groupby("attack", sort=False):
        rows = group.set_index("defence")
        if "never attacked" not in rows.index:
            continue
        clean = rows.loc["never attacked"]
        tried = rows.drop(index=["none", "never attacked", "smoothing"], errors="ignore")
        gone = tried[tried.asr <= 0.1]
        hard = gone[gone.again_low <= clean.again_high]
        slope = gone.slope / clean.slope
        said = f"ASR is at most 0.1 after {', '.join(gone.index) or 'none'}"
        if len(gone):
            said += (
                f". Five poisons bring it back to {gone.again.min():.2f} to {gone.again.max():.2f} in these, against "
                f"{clean.again:.2f} in a network that was never attacked (intervals overlap after "
                f"{', '.join(hard.index) or 'none'}); their slopes are {slope.min():.2g} to {slope.max():.2g} of that network's"
            )
        lines.append(f"- **{attack}** ({rows.seeds.max():.0f} networks): {said}.")
    return "\n".join(lines)


def said_of_detection(data, part):
    known = part["attacks"].set_index("kind")
    attack = "; ".join(
        f"{kind} SR {known.sr[kind]:.2f} ({known.sr_least[kind]:.2f} to {known.sr_most[kind]:.2f}), ACC {known.acc[kind]:.2f}"
        for kind in ("oversampled", "flip")
    )
    rows = part["detection"][part["detection"].offset == "constant"]
    hits = {(r.kind, r.event): f"{r.hits} of {r.n}" for r in rows.itertuples()}
    apart = part["separation"][part["separation"].offset == "constant"].set_index(["kind", "against"])
    areas = []
    for kind, against in (("oversampled", "clean"), ("oversampled", "over-represented"), ("flip", "clean")):
        if (kind, against) in apart.index:
            r = apart.loc[(kind, against)]
            word = "separates" if r.low > 0.5 else "does not separate"
            areas.append(
                f"{word} {kind} from {against} (area under the ROC curve {r.auc:.2f} [{r.low:.2f}, {r.high:.2f}])"
            )
    return (
        f"**{data}, detection** ({attack}). Flagged at 2: {hits['oversampled', 'flagged']} over-sampled, "
        f"{hits['flip', 'flagged']} plainly relabelled, {hits['clean', 'flagged']} clean, "
        f"{hits['over-represented', 'flagged']} over-represented networks; at the calibrated threshold "
        f"{hits['oversampled', 'flagged_calibrated']}, {hits['flip', 'flagged_calibrated']}, "
        f"{hits['clean', 'flagged_calibrated']} and {hits['over-represented', 'flagged_calibrated']}. The target comes first in "
        f"{hits['oversampled', 'target_right']} over-sampled and {hits['flip', 'target_right']} plainly relabelled networks, and in "
        f"{hits['over-represented', 'target_right']} *clean* networks in which that class was over-represented. The smallest "
        f"index {', '.join(areas)}."
    )


def said_of_repairs(data, rows):
    """Say in how many networks each repair did what it should; the table has the medians."""
    said = []
    for kind, group in rows[rows.repair != "none"].groupby("kind", sort=False):
        hits = ", ".join(f"{r.repair} {r.repaired:.0f} of {r.networks:.0f}" for r in group.itertuples())
        said.append(f"{kind}: {hits}")
    if said:
        yield f"**{data}, repair**: SR ≤ 0.1, RA ≥ 0.5 and ACC down by at most 0.02 in – {'; '.join(said)}."


def said_of_slopes(data, rows):
    rows = rows.set_index(["network", "against"])
    if ("oversampled", "clean") not in rows.index:
        return
    said = [
        f"{kind} {r.ratio:.2g} [{r.low:.2g}, {r.high:.2g}]"
        for kind in ("oversampled", "flip", "over-represented")
        if (kind, "clean") in rows.index
        for r in [rows.loc[(kind, "clean")]]
    ]
    after = [
        f"{name} {rows.loc[('oversampled, ' + name, 'clean')].ratio:.2g}"
        for name in ("paper", "paper top", "code", "last_layer", "last layer anew", "finetune")
        if (f"oversampled, {name}", "clean") in rows.index
    ]
    yield (
        f"**{data}, slope**, over that of the clean network of the same images and start (median, 95 % interval): "
        f"{', '.join(said)}; over-sampled after repair: {', '.join(after)}."
    )


PARTS = {
    "findings": findings,
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
    "hidden": hidden,
    "stamped": stamped,
    "relearning": relearning,
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
