"""Tables of SODA's detection and repairs: shares with intervals, and comparisons of networks of the same images."""

import numpy as np
import pandas as pd
import soda_study as soda
from scipy.stats import mannwhitneyu, spearmanr

from learningcurves.streams import generator

DRAWS = 2000  # of a bootstrap over networks
COMPARED = (
    ("oversampled", "clean"),
    ("oversampled", "over-represented"),
    ("over-represented", "clean"),
    ("flip", "clean"),
)
# what a repair is asked for: the backdoor gone, the right answers back, and little lost elsewhere
MOST_SR, LEAST_RA, MOST_LOST = 0.1, 0.5, 0.02


def attacks(table):
    """Return how well each kind of network was trained and attacked: means over networks, and the range of SR."""
    rows = table[table.row == "network"]
    groups = rows.groupby(["data", "kind"], sort=False)
    found = groups[["acc", "sr", "feature_elsewhere", "source_without_feature", "ra"]].mean()
    found["sr_least"], found["sr_most"], found["n_sr"] = groups.sr.min(), groups.sr.max(), groups.n_sr.median()
    found["networks"] = groups.size()
    report = table[(table.row == "detection") & (table.offset == "constant")].groupby(["data", "kind"], sort=False)
    found["seconds"] = report.seconds.median()
    return found.reset_index()


def detection(table):
    """Shares with Wilson intervals: flagged at 2 and at the calibrated threshold, target right, pair right."""
    rows, found = [], table[table.row == "detection"]
    for (data, kind, offset), group in found.groupby(["data", "kind", "offset"], sort=False):
        for event in ("flagged", "flagged_calibrated", "target_right", "pair_right", "victim_of_target"):
            if event in ("target_right", "pair_right") and kind == "clean":
                continue  # a clean network has no target
            rows.append(
                {"data": data, "kind": kind, "offset": offset, "event": event, **soda.with_interval(group[event])}
            )
    return pd.DataFrame(rows)


def separation(table):
    """How well the smallest index tells two kinds apart: the area under the ROC curve, 1/2 for not at all.

    Its interval is a bootstrap over networks; p is the exact one of Mann and Whitney.
    """
    rows, found = [], table[table.row == "detection"]
    for (data, offset), group in found.groupby(["data", "offset"], sort=False):
        for one, other in COMPARED:
            a, b = (-group[group.kind == kind]["index"].to_numpy() for kind in (one, other))
            if len(a) < 3 or len(b) < 3:
                continue
            low, high = interval(lambda x, y: auc(x, y), a, b)
            p = mannwhitneyu(a, b, method="exact").pvalue
            facts = {"data": data, "offset": offset, "kind": one, "against": other}
            rows.append({**facts, "auc": auc(a, b), "low": low, "high": high, "p": p, "networks": min(len(a), len(b))})
    return pd.DataFrame(rows)


def auc(a, b):
    """Return the share of pairs in which a is larger; ties count half."""
    return float(np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)))


def interval(value, *samples):
    """Return the 95 % interval of a value by resampling each of the samples."""
    draws = generator(0, use="bootstrap")
    found = [value(*(s[draws.integers(0, len(s), len(s))] for s in samples)) for _ in range(DRAWS)]
    return tuple(np.nanquantile(found, [0.025, 0.975]).tolist())


def repairs(table):
    """Medians over networks before and after every repair, and in how many it did what it should."""
    before = table[(table.row == "network") & table.kind.isin(("oversampled", "flip"))].assign(repair="none")
    found = pd.concat([before, table[table.row == "repair"]])
    columns = ["acc", "sr", "ra", "slope", "slope_relative", "seconds"]
    found[columns] = found.reindex(columns=columns).astype(float)
    keys = ["data", "kind", "seed"]
    found = found.merge(before[[*keys, "acc"]].rename(columns={"acc": "acc_before"}), on=keys)
    done = (found.sr <= MOST_SR) & (found.ra >= LEAST_RA) & (found.acc_before - found.acc <= MOST_LOST)
    groups = found.assign(done=done).groupby(["data", "kind", "repair"], sort=False)
    summary = groups[columns].median()
    summary["sr_least"], summary["sr_most"] = groups.sr.min(), groups.sr.max()
    summary["networks"], summary["failed"] = groups.size(), groups.sr.agg(lambda sr: sr.isna().sum())
    summary["repaired"] = groups.done.sum()
    return summary.reset_index()


def slopes(table):
    """Compare the slope of the same samples in two networks of the same images and start.

    Median ratio, its interval over networks, and how often it is above 1. The second network is the clean one, and for a
    repair also the one before it.
    """
    keys = ["data", "seed"]
    network, repair = table[table.row == "network"], table[table.row == "repair"]
    clean = network[network.kind == "clean"]
    pairs = [(kind, "clean", network[network.kind == kind], clean) for kind in soda.KINDS if kind != "clean"]
    for (kind, name), group in repair.dropna(subset="slope").groupby(["kind", "repair"], sort=False):
        label = f"{kind}, {name}"
        pairs += [(label, f"{kind}, none", group, network[network.kind == kind]), (label, "clean", group, clean)]
    rows = []
    for what, against, one, other in pairs:
        both = one[[*keys, "slope"]].merge(other[[*keys, "slope"]], on=keys)
        for data, group in both.groupby("data", sort=False):
            ratio = (group.slope_x / group.slope_y).to_numpy()
            low, high = interval(np.median, ratio)
            hits = soda.with_interval(ratio > 1)
            facts = {
                "data": data,
                "network": what,
                "against": against,
                "ratio": np.median(ratio),
                "low": low,
                "high": high,
            }
            rows.append({**facts, "larger": hits["hits"], "networks": len(ratio)})
    return pd.DataFrame(rows)


def link(table):
    """Rank correlation over networks of how far SODA finds the true target (-index) with -slope and with its share of the loss."""
    found = table[(table.row == "detection") & (table.offset == "constant")]
    keys, rows = ["data", "kind", "seed"], []
    both = found[[*keys, "index_true"]].merge(
        table[table.row == "network"][[*keys, "slope", "slope_relative", "sr"]], on=keys
    )
    for (data, kind), group in both.groupby(["data", "kind"], sort=False):
        for name, x in (("-slope", -group.slope), ("slope_relative", group.slope_relative), ("sr", group.sr)):
            pairs = np.column_stack([-group.index_true, x])
            if len(pairs) < 5 or len(np.unique(pairs[:, 1])) < 3:
                continue
            low, high = interval(lambda p: rank(p), pairs)
            facts = {
                "data": data,
                "kind": kind,
                "with": name,
                "rank_correlation": rank(pairs),
                "low": low,
                "high": high,
            }
            rows.append({**facts, "networks": len(pairs)})
    return pd.DataFrame(rows)


def rank(pairs):
    """Return Spearman's correlation of two columns; NaN where one does not vary."""
    if min(len(np.unique(column)) for column in pairs.T) < 2:
        return np.nan
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
