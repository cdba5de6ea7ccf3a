"""Section of the report: maps, the safe region, and whether it is stable."""

from report_tools import LEARNERS, claim, commands, have, markdown, number, picture, section, table

STABLE = 0.8  # mean overlap from which two regions count as the same


# %% 5. Maps and regions
def maps():
    kinds = have("regions")
    return section(
        "## 5. Maps and the safe region",
        commands(
            *(f"python analyses/05_maps.py --pairs {kind} --tables analyses/tables" for kind, _ in kinds),
            "python figures/fig_maps.py",
        ),
        "Safe: at β = 1 clean accuracy within 0.02 of the best along λ, and BK at most 0.1 (`lc.safe_region`; ends bisected "
        "on exact solves).",
        *(_regions(kind, found) for kind, found in kinds),
    )


def _regions(kind, found):
    failed = found[found.status != "ok"]
    lost = f" {len(failed)} could not be searched, since a solve failed." if len(failed) else ""
    found = found[found.status == "ok"]
    rows = []
    for name, group in found.groupby("learner", sort=False):
        some = group[group.n_intervals > 0]
        ends = [number(v, 2) for end in (some.safe_low, some.safe_high) for v in (end.min(), end.max())]
        open_ = int((some.safe_high >= some.searched_high).sum())
        rows.append([LEARNERS[name], f"{len(some)} of {len(group)}", *ends, open_])
    head = ["learner", "has a safe region", "lower end from", "to", "upper end from", "to", "open above"]
    several = int((found.n_intervals > 1).sum())
    low, high = found.searched_low.iloc[0], found.searched_high.iloc[0]
    return section(
        f"{kind}, p = 0.1; {_count(found.pair, 'pair')}, {_count(found.seed, 'seed')}, {_count(found.trigger, 'trigger')} "
        f"({', '.join(found.trigger.unique())}), λ searched from {number(low)} to {number(high)}. *Open above*: the region "
        f"reaches the end of that range and may go on.{lost}"
        + (f" {several} of the regions are in pieces; their ends are those of the hull." if several else ""),
        markdown(head, rows),
        _stability(found, table(f"stability_{kind}")),
        picture(f"regions_{kind}", f"{kind}: safe λ by pair and trigger, one bar a seed; a cross where there is none"),
        picture(f"map_fraction_{kind}_bk", f"{kind}: BK over λ and the poisoned fraction, safe cells outlined"),
        picture(f"map_fraction_{kind}_accuracy_clean", f"{kind}: clean accuracy over the same, safe cells outlined"),
        picture(f"map_gamma_{kind}", f"{kind}: BK and clean accuracy of the RBF SVM over λ and γ"),
    )


def _count(values, word):
    n = values.nunique()
    return f"{n} {word}{'s' if n > 1 else ''}"


# %% Is the region stable across pairs, triggers and sizes?
def _stability(found, shared):
    if shared is None or shared.empty:
        return ""
    rows = [
        [LEARNERS[r.learner], r.differ_in, f"{r.overlap:.0%}", f"{r.smallest:.0%}", r.n_pairs]
        for r in shared.itertuples()
    ]
    mean = shared.groupby("differ_in", sort=False).overlap.mean()
    moves = [name for name, overlap in mean.items() if overlap < STABLE]
    some = int((found.n_intervals > 0).sum())
    common = {name: _most_common(group) for name, group in found.groupby("learner", sort=False)}
    served = [LEARNERS[name] for name, (_, held, n) in common.items() if held == n > 0]
    serves = "for no learner one λ serves all of them"
    if served:
        serves = f"one λ serves all of them for {'every learner' if len(served) == len(common) else ', '.join(served)}"
    return section(
        "Overlap of two regions that differ in one thing (share of λ on the log scale that both hold of what either holds; 0 "
        "where only one is empty):",
        markdown(["learner", "the two differ in", "mean overlap", "smallest", "pairs compared"], rows),
        claim(
            "there is a region of hyperparameters that is accurate and resists backdoors",
            "pictures only",
            f"{some} of {len(found)} cells have one; mean overlap "
            + ", ".join(f"{v:.0%} for another {name}" for name, v in mean.items())
            + "; the λ that lies in most of them: "
            + ", ".join(f"{LEARNERS[n]} {number(reg, 2)} ({held} of {n_some})" for n, (reg, held, n_some) in common.items()),
            ("confirmed" if some == len(found) else "confirmed where it exists")
            + (f"; it is not stable: it moves with the {', '.join(moves)}" if moves else "; stable")
            + f"; {serves}",
        ),
    )  # fmt: skip


def _most_common(group):
    """Return the lambda that lies in most of the regions (middle of the widest such stretch), in how many, of how many."""
    some = group[group.n_intervals > 0]
    ends = sorted({*some.safe_low, *some.safe_high})
    if not ends:
        return float("nan"), 0, 0
    stretches = list(zip(ends, ends[1:], strict=False)) or [(ends[0], ends[0])]
    held = [int(((some.safe_low <= a) & (some.safe_high >= b)).sum()) for a, b in stretches]
    low, high = max((s for s, n in zip(stretches, held, strict=True) if n == max(held)), key=lambda s: s[1] / s[0])
    return (low * high) ** 0.5, max(held), len(some)
