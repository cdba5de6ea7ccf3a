"""The section of docs/attacks.md on what defences do: tables, and each network in words."""

import pandas as pd
from attack_page import bullets, interval, markdown, number, picture, sizes
from attack_words import DEFENCE_WORDS
from report_tools import table

from learningcurves.defences.pruning import within


def defences():
    summary = table("defences")
    if summary is None:
        return "Not run."
    parts = [DEFENCE_WORDS]
    for data, group in summary.groupby("data"):
        rows = [
            {
                "attack": row.attack,
                "defence": row.defence,
                "ASR": interval(row, "asr"),
                "least, most": f"{row.asr_least:.3f}, {row.asr_most:.3f}" if row.seeds > 1 else "",
                "ACC": f"{row.acc:.3f}",
                "RA": f"{row.ra:.3f}",
                "DER": number(row.get("der", float("nan"))),
                "cut": number(row.get("n_pruned", float("nan")), 4),
                "slope": number(row.slope),
                "slope / loss": number(row.slope_relative),
                "BK, head on clean": f"{row.head_bk_at_0:.2f}",
                "poisons to re-learn": few(row),
            }
            for _, row in group.iterrows()
        ]
        words = f"{data}: {sizes(data)}; {int(group.seeds.min())} network(s) an entry."
        parts += [
            words,
            verdict(group),
            bullets(in_words(group)),
            tolerances(data),
            markdown(rows),
            picture(
                f"Accuracy, ASR and RA of each defence on {data}; thin lines: from the least to the most of single networks",
                f"rates_{data}",
            ),
            picture(f"Curves before and after on {data}", f"defences_{data}"),
        ]
        parts += [picture(f"Adversarial neuron pruning on {data}", f"anp_{data}")]
    return "\n\n".join(p for p in parts if p)


def tolerances(data, points=(0.02, 0.05, 0.1, 0.2)):
    """Say what pruning by number would have cut at several tolerances of held-out accuracy: means over networks."""
    found, words = table("defences_numbers"), []
    if found is None:
        return ""
    for attack, part in found[found.data == data].groupby("attack", sort=False):
        chosen = []
        for tol in points:
            rows = pd.DataFrame([at_tolerance(one, tol) for _, one in part.groupby("seed")])
            means = rows[["n_pruned", "asr", "acc"]].astype(float).mean()
            chosen.append(
                f"{100 * tol:.0f} points: {means.n_pruned:.0f} neurons, ASR {means.asr:.3f}, ACC {means.acc:.3f}"
            )
        words.append(f"{attack}, by number at a tolerance of " + "; ".join(chosen) + ".")
    return bullets(words)


def at_tolerance(network, tol):
    """Return the row of a network's numbers that held-out clean accuracy chooses at a tolerance."""
    rows = network.sort_values("n_pruned").reset_index(drop=True)
    return rows.loc[within(rows.assign(acc=rows.acc_held_out), rows.acc_held_out[0], tol)]


def verdict(group):
    """Say after how many defences of an attack the backdoor fires less, is repaired, and comes back easier than anew."""
    clean = group[group.defence == "never attacked"].set_index("attack")
    works = set(group[(group.defence == "none") & (group.asr >= 0.5)].attack) & set(clean.index)
    done = group[~group.defence.isin(("none", "never attacked")) & group.attack.isin(works)]
    if not len(done):
        return ""
    never = clean.loc[done.attack]
    falls = done.asr.to_numpy() < 0.5
    right = falls & (done.ra.to_numpy() > never.ra.to_numpy() - 0.1)
    sooner = (
        done.poisons_to_relearn.fillna(float("inf")).to_numpy()
        < never.poisons_to_relearn.fillna(float("inf")).to_numpy()
    )
    return (
        f"Of {len(done)} pairs of defence and attack, of attacks that reach one half, {falls.sum()} have ASR below one half, "
        f"{right.sum()} of them with RA within 0.1 of networks that were never attacked. {sooner.sum()} need fewer poisons than those "
        "(or none) for ASR of one half. Rates are pooled over networks."
    )


def in_words(group):
    """Say for each attack and defence what is left of the backdoor, against the network that never had it."""
    words = []
    for attack, part in group.groupby("attack", sort=False):
        rows = {row.defence: row for row in part.itertuples()}
        if not {"none", "never attacked"} <= set(rows):
            continue
        before, clean = rows["none"], rows["never attacked"]
        for name in ("finetune", "fineprune", "anp", "anp by number"):
            row = rows.get(name)
            if row is not None:
                words.append(f"{attack}, {name}{what_changed(row, before, clean)}")
    return words


def what_changed(row, before, clean):
    cut = "" if row.n_pruned != row.n_pruned else f" ({row.n_pruned:.0f} of {row.n_units:.0f} neurons cut)"
    words = (
        f"{cut}: ASR {before.asr:.3f} to {row.asr:.3f}, ACC {before.acc:.3f} to {row.acc:.3f}, RA {before.ra:.3f} to "
        f"{row.ra:.3f} (never attacked: {clean.ra:.3f}). Slope of the last layer {before.slope:.3g} to {row.slope:.3g} nats "
        f"({clean.slope:.3g}); refitting it on clean samples alone leaves BK {row.head_bk_at_0:.2f} ({clean.head_bk_at_0:.2f}). "
        + again(row)
        + f"; for the network that was never attacked: {few(clean)}."
    )
    if row.oracle_asr == row.oracle_asr:
        words += (
            f" The best that an oracle finds at five points of accuracy: ASR {row.oracle_asr:.3f}, ACC {row.oracle_acc:.3f} with "
            f"{row.oracle_n_pruned:.0f} neurons cut."
        )
    return words


def again(row):
    """Say how few poisons bring ASR to one half, and whether it takes any."""
    if row.poisons_to_relearn == 0 and row.asr < 0.5:
        return "Training on with clean samples alone brings ASR back to one half: the backdoor was hidden, not gone"
    if row.poisons_to_relearn == 0:
        return "ASR stays above one half without any poison"
    return f"Poisons to bring ASR to one half: {few(row)}"


def few(row):
    return (
        f"more than {row.most_tried:.0f}"
        if row.poisons_to_relearn != row.poisons_to_relearn
        else f"{row.poisons_to_relearn:.0f}"
    )
