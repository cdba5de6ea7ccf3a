"""What the tables of SODA say, in their numbers: the sentences of docs/defences.md."""

import numpy as np


def poisons(row):
    """Return median and range over networks, in words."""
    said = [
        f"{k:g}" if np.isfinite(k) else f"> {row.most_tried:g}"
        for k in (row.poisons_to_relearn, row.poisons_least, row.poisons_most)
    ]
    return said[0] if said[1] == said[2] else f"{said[0]} ({said[1]} to {said[2]})"


def findings(table):
    """Say what came of detection, repairs and slopes; `table` gives a table by its name, or None."""
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


def short(table):
    """Say in a few lines what came of detection and repair over all sets of images."""
    found = {name: table(f"soda_{name}") for name in ("detection", "separation", "repairs")}
    if any(part is None for part in found.values()):
        return None
    rows = found["detection"]
    sums = rows[rows.offset == "constant"].groupby(["event", "kind"])[["hits", "n"]].sum()

    def counts(event):
        return ", ".join(f"{kind} {r.hits} of {r.n}" for kind, r in sums.loc[event].iterrows())

    areas = found["separation"]
    areas = areas[(areas.offset == "constant") & (areas.kind == "oversampled")].set_index("against")
    told = {
        against: ", ".join(areas.loc[against].query("low > 0.5").data) or "none"
        for against in ("clean", "over-represented")
    }
    repairs = found["repairs"][found["repairs"].repair != "none"].groupby(["kind", "repair"], sort=False)
    best = repairs[["repaired", "networks"]].sum().astype(int).sort_values("repaired").groupby(level=0).tail(1)
    least = ", ".join(f"{kind} {name} in {r.repaired} of {r.networks}" for (kind, name), r in best.iterrows())
    return "\n".join(
        [
            f"- The target comes first: {counts('target_right')} networks; victim and target are right: {counts('pair_right')}.",
            f"- Flagged at 2: {counts('flagged')}; at the calibrated threshold: {counts('flagged_calibrated')}.",
            f"- The smallest index tells over-sampled from clean networks (ROC area above 1/2 with its interval) on {told['clean']}; "
            f"over-sampled from over-represented ones on {told['over-represented']}.",
            f"- The repair that most often did what it should: {least}.",
        ]
    )


def hidden(table):
    """Say which defences leave a network that is as hard to backdoor again as one that was never attacked."""
    found = table("soda_defences")
    if found is None:
        return None
    lines = []
    for (data, attack), group in found[found.seeds > 0].groupby(["data", "attack"], sort=False):
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
        count = int(rows.seeds.max())
        lines.append(f"- **{data}, {attack}** ({count} network{'s' if count > 1 else ''}): {said}.")
    return "\n".join(lines)


def said_of_detection(data, part):
    """Say who was flagged, whose target came first, whose pair was right, and whether the index tells kinds apart."""
    known = part["attacks"].set_index("kind")
    attack = "; ".join(
        f"{kind} SR {known.sr[kind]:.2f} ({known.sr_least[kind]:.2f} to {known.sr_most[kind]:.2f}), ACC {known.acc[kind]:.2f}"
        for kind in ("oversampled", "flip")
        if kind in known.index
    )
    rows = part["detection"][part["detection"].offset == "constant"]

    def counts(event):
        return ", ".join(f"{r.kind} {r.hits} of {r.n}" for r in rows[rows.event == event].itertuples())

    areas = []
    for r in part["separation"][part["separation"].offset == "constant"].itertuples():
        word = "separates" if r.low > 0.5 else "does not separate"
        areas.append(f"{word} {r.kind} from {r.against} ({r.auc:.2f} [{r.low:.2f}, {r.high:.2f}])")
    return (
        f"**{data}, detection** ({attack}; clean ACC {known.acc['clean']:.2f}). Flagged at 2: {counts('flagged')}; at the calibrated "
        f"threshold: {counts('flagged_calibrated')}. The target first: {counts('target_right')}; the pair right: "
        f"{counts('pair_right')}. By the area under the ROC curve the smallest index {', '.join(areas)}."
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
