"""Write the results into docs/attacks.md from the tables that are there; what has no table is named as not yet run."""

import importlib
import re
from pathlib import Path

import attack_study as attacks
from attack_page import PAGE, bullets, interval, markdown, number, picture, sizes
from attack_words import CIFAR_WORDS, CLEAN_WORDS, COUNTS_WORDS, MISSING_WORDS, TRIAL_WORDS
from defence_page import defences
from report_tools import table

from learningcurves.storage import write_atomic

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
    analysis = importlib.import_module("11_clean_label")
    words = bullets(analysis.finding(summary) + analysis.apart(table("clean_label_networks")))
    sets = "; ".join(f"{data}: {sizes(data)}" for data in summary.data.unique())
    return "\n\n".join(
        [CLEAN_WORDS, f"{sets}.", words, markdown(rows), picture("Clean-label poisons by eps", "clean_label")]
    )


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
                "least, most": f"{row.asr_least:.3f}, {row.asr_most:.3f}",
                "no trigger": interval(row, "no_trigger"),
                "ACC": interval(row, "acc"),
                "RA": interval(row, "ra"),
                "reported ASR": number(row.reported_asr, 4),
                "reported ACC": number(row.reported_acc, 4),
            }
            for _, row in group.iterrows()
        ]
        parts += [f"{data}: {sizes(data)}; {int(group.seeds.min())} network(s) an entry.", markdown(rows)]
    return "\n\n".join([*parts, *trials()])


def trials():
    """Return what was tried before the settings of the small set were fixed: one network a row."""
    found = table("cifar_trials")
    if found is None:
        return []
    rows = [
        {
            "attack": row["attack"],
            "trigger": row["trigger"],
            "poisons": row["count"],
            "ε, of 255": row.eps_255 or "",
            "shifts, flips": f"{row['shift']} pixels" if row["shift"] else "none",
            "ASR": interval(row, "asr"),
            "no trigger": interval(row, "no_trigger"),
            "ACC": f"{row.acc:.3f}",
            "slope, clean network": number(row.slope),
        }
        for _, row in found.iterrows()
    ]
    return [TRIAL_WORDS, markdown(rows)]


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
