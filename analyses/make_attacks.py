"""Write the results into docs/attacks.md from the tables that are there; what has no table is named as not yet run."""

import importlib
import re
from pathlib import Path

import attack_study as attacks
import pandas as pd
import study
from attack_words import CIFAR_WORDS, CLEAN_WORDS, COUNTS_WORDS, DEFENCE_WORDS, MISSING_WORDS

from learningcurves.defences.pruning import within
from learningcurves.storage import write_atomic

PAGE = study.HERE.parent / "docs" / "attacks.md"
IMAGES = "images/attacks"
COMMANDS = {
    "attack_counts": "analyses/09_attack_counts.py",
    "clean_label": "analyses/11_clean_label.py",
    "defences": "analyses/12_defences.py",
    "cifar": "analyses/13_cifar.py",
}
KEYS = {
    "attack_counts": ["attack", "count"],
    "clean_label": ["eps"],
    "defences": ["attack", "defence"],
    "cifar": ["attack"],
}
DATA = {  # what each is meant to run on
    "attack_counts": ("mnist", "cifar10", "cifar10-full"),
    "clean_label": ("mnist-wide", "cifar10"),
    "defences": ("mnist-wide", "cifar10", "cifar10-ten", "cifar10-full"),
    "cifar": ("cifar10", "cifar10-ten", "cifar10-full"),
}
ON_A_GPU = ("cifar10-ten", "cifar10-full")


def table(name):
    path = study.TABLES / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else None


def interval(row, name):
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def number(value, digits=3):
    return "" if value != value else f"{value:.{digits}g}"


def markdown(rows):
    frame = pd.DataFrame(rows)
    head = "| " + " | ".join(frame.columns) + " |\n|" + "---|" * len(frame.columns)
    return "\n".join([head, *("| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False))])


def picture(words, name):
    return f"![{words}]({IMAGES}/{name}.png)" if (PAGE.parent / IMAGES / f"{name}.png").exists() else ""


def sizes(data):
    size = attacks.SIZES[data]
    network = (
        f"ResNet-18 of width {size['width']}" if data.startswith("cifar10") else f"`SmallCNN` of width {size['width']}"
    )
    n = "all" if size["n"] is None else f"{size['n']:,}"
    if "classes" in size:
        return f"{n} training images of {len(size['classes'])} classes, {network}, {size['epochs']} epochs, target class {attacks.TARGET}"
    return f"{n} training images, {network}, {size['epochs']} epochs, target class {attacks.TARGET}"


def counts():
    summary, related = table("attack_counts"), table("attack_counts_relations")
    if summary is None:
        return "Not run."
    parts = []
    for data, group in summary.groupby("data"):
        seeds = sorted(group.seeds.unique())
        spoken = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        parts.append(
            f"{data}: {sizes(data)}; {spoken} network(s) a point (other images, start and batches each). Rates are pooled over "
            'networks, with Wilson\'s interval; "least, most" are single networks.'
        )
        rows = [
            {
                "attack": row.attack,
                "poisons": int(row["count"]),
                "ASR": interval(row, "asr"),
                "least, most": f"{row.asr_least:.3f}, {row.asr_most:.3f}",
                "no trigger": f"{row.no_trigger:.3f}",
                "ACC": f"{row.acc:.3f}",
                "slope": number(row.slope),
                "BK of the refitted head": f"{row.head_bk:.3f}",
            }
            for _, row in group.sort_values(["attack", "count"]).iterrows()
        ]
        parts += [picture(f"Success against the number of poisons on {data}", f"counts_{data}"), markdown(rows)]
        parts += [
            "Where the jump is, and how well slope, refitted head and the bare count rank the networks by ASR (Spearman):"
        ]
        parts += [markdown(relation_rows(related[related.data == data]))]
    words = importlib.import_module("09_attack_counts").finding(summary, related) + across(related)
    return "\n\n".join(p for p in [COUNTS_WORDS, bullets(words), *parts] if p)


def bullets(words):
    return "\n".join(f"- {line}" for line in words)


def across(related):
    """Say whether one size of the slope locates the jumps of all attacks, whose counts differ."""
    words = []
    for data, group in related[related.attack != "all"].groupby("data"):
        jumps = group[group.above == group.above]
        if len(jumps) < 2:
            continue
        counts, slopes = jumps.above, jumps.slope_above
        words.append(
            f"{data}: ASR of one half is first passed at {counts.min():.0f} to {counts.max():.0f} poisons, a factor of "
            f"{counts.max() / counts.min():.0f} between attacks; the slope of the clean last layer at those counts is "
            f"{slopes.min():.3g} to {slopes.max():.3g} nats, a factor of {slopes.max() / slopes.min():.1f}."
        )
    return words


def relation_rows(related):
    def where(row):
        if row.attack == "all":
            return ""
        if row.above != row.above:
            return "not reached"
        return f"up to {row.above:.0f}" if row.below != row.below else f"{row.below:.0f} to {row.above:.0f}"

    return [
        {
            "attack": row.attack,
            "networks": row.n,
            "ASR passes one half, poisons": where(row),
            "size of the slope there": reach(row.slope_below, row.slope_above),
            **{words: rank(row, name) for words, name in RANKS.items()},
        }
        for row in related.itertuples()
    ]


RANKS = {"rank: slope": "rank_slope", "rank: refitted head": "rank_head", "rank: count": "rank_count"}


def rank(row, name):
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
    return "" if value != value else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def reach(low, high):
    if high != high:
        return "" if low != low else f"below at {number(low)}"
    return f"above at {number(high)}" if low != low else f"{number(low)} to {number(high)}"


def clean_label():
    summary = table("clean_label")
    if summary is None:
        return "Not run."
    names = {
        "asr": "trigger (ASR)",
        "no_trigger": "neither",
        "noise_only": "noise ±ε only",
        "pgd_only": "PGD only",
        "trigger_and_noise": "trigger and noise",
    }
    rows = [
        {
            "data": row["data"],
            "ε": number(row.eps),
            "poisons": int(row["count"]),
            "networks": int(row.seeds),
            "fool the clean network": f"{row.fooled:.0%}",
            **{label: interval(row, name) for name, label in names.items()},
            "ACC": f"{row.acc:.3f}",
        }
        for _, row in summary.sort_values(["data", "eps"]).iterrows()
    ]
    words = bullets(importlib.import_module("11_clean_label").finding(summary))
    sets = "; ".join(f"{data}: {sizes(data)}" for data in summary.data.unique())
    return "\n\n".join(
        [CLEAN_WORDS, f"{sets}.", words, markdown(rows), picture("Clean-label poisons by eps", "clean_label")]
    )


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
            picture(f"Accuracy, ASR and RA of each defence on {data}", f"rates_{data}"),
            picture(f"Curves before and after on {data}", f"defences_{data}"),
        ]
        parts += [picture(f"Adversarial neuron pruning on {data}", f"anp_{data}")]
    return "\n\n".join(p for p in parts if p)


def tolerances(data, points=(0.02, 0.05, 0.1, 0.2)):
    """Say what pruning by number would have cut at several tolerances of held-out accuracy, and what that does."""
    found, words = table("defences_numbers"), []
    if found is None:
        return ""
    for attack, part in found[found.data == data].groupby("attack", sort=False):
        chosen = []
        for tol in points:
            one = part[part.seed == part.seed.min()].sort_values("n_pruned").reset_index(drop=True)
            row = one.loc[within(one.assign(acc=one.acc_held_out), one.acc_held_out[0], tol)]
            chosen.append(f"{100 * tol:.0f} points: {row.n_pruned} neurons, ASR {row.asr:.3f}, ACC {row.acc:.3f}")
        words.append(f"{attack}, by number at a tolerance of " + "; ".join(chosen) + ".")
    return bullets(words)


def verdict(group):
    """Say in how many defended networks the backdoor fires less, is repaired, and comes back easier than anew."""
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
        f"Of {len(done)} defended networks, of attacks that reach one half, {falls.sum()} have ASR below one half, {right.sum()} of them with RA within 0.1 of the "
        f"network that was never attacked. {sooner.sum()} need fewer poisons than that network (or none) for ASR of one half."
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


def cifar():
    summary = table("cifar")
    if summary is None:
        return "Not run."
    parts = [CIFAR_WORDS]
    for data, group in summary.groupby("data", sort=False):
        rows = [
            {
                "attack": row.attack,
                "poisons": int(row.n_poison),
                "network": row.network,
                "ASR": interval(row, "asr"),
                "no trigger": interval(row, "no_trigger"),
                "ACC": interval(row, "acc"),
                "RA": interval(row, "ra"),
                "reported ASR": number(row.reported_asr, 4),
                "reported ACC": number(row.reported_acc, 4),
            }
            for _, row in group.iterrows()
        ]
        parts += [f"{data}: {sizes(data)}; {int(group.seeds.min())} network(s) an entry.", markdown(rows)]
    return "\n\n".join(parts)


def few(row):
    return (
        f"more than {row.most_tried:.0f}"
        if row.poisons_to_relearn != row.poisons_to_relearn
        else f"{row.poisons_to_relearn:.0f}"
    )


def missing():
    rows = []
    for name, command in COMMANDS.items():
        found = table(f"{name}_networks")
        for data in DATA[name]:
            done = 0 if found is None else len(found[found.data == data].drop_duplicates(["seed", *KEYS[name]]))
            if done < planned(name, data):
                device = " --device cuda" if data in ON_A_GPU else ""
                rows.append(
                    {
                        "data": data,
                        "size": sizes(data),
                        "done": f"{done} of {planned(name, data)}",
                        "command": f"`python {command} --data {data}{device}`",
                    }
                )
    return MISSING_WORDS + "\n\n" + markdown(rows) if rows else "Nothing."


def planned(name, data):
    """Return the number of cells of an analysis; a clean-label attack stops where its class has no sample left."""
    size = attacks.SIZES[data]
    if name == "attack_counts":
        n = size["n"] or 25_000
        in_class = n // len(size.get("classes", range(10)))
        per_seed = sum(k < in_class for k in size["counts"]) + 3 * sum(k <= n // 2 for k in size["counts"])
        return len(size["seeds"]) * per_seed
    module = importlib.import_module(Path(COMMANDS[name]).stem)
    return len(module.cells_of([data]))


def write(page, sections):
    for name, text in sections.items():
        pattern = rf"(<!-- results:{name} -->\n).*?(<!-- end -->)"
        page, n = re.subn(pattern, lambda m, text=text: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.S)
        assert n == 1, name
    return page


def page() -> str:
    """Return the page with the results of the committed tables."""
    made = {
        "counts": counts(),
        "clean_label": clean_label(),
        "cifar": cifar(),
        "defences": defences(),
        "missing": missing(),
    }
    return write(Path(PAGE).read_text(encoding="utf-8"), made)


if __name__ == "__main__":
    write_atomic(PAGE, page().encode())
    print(PAGE)
