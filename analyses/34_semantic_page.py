"""What do the semantic-loss experiments say, beside what was published?"""

# %% Question
import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import semantic_study as semantic
import study

from learningcurves.storage import write_atomic

QUESTION = __doc__
BEGIN, END = "<!-- study: written by analyses/34_semantic_page.py -->", "<!-- end of the study -->"
PLACE = study.HERE.parent / "docs" / "semantic-loss.md"
HEADLINE = ("none", *semantic.RULES)


# %% Tables to words
def percent(value, sd=np.nan):
    if value != value:
        return ""
    return f"{100 * value:.1f}" + (f" ± {100 * sd:.1f}" if sd == sd else "")


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def one(table, **wanted):
    """The row of a table with these values, or None."""
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table.iloc[0] if len(table) else None


def cell(row, name):
    return "" if row is None else percent(row[name], row[f"{name}_sd"])


def headline(means, published):
    rows = []
    for rules in HEADLINE:
        said = one(published[published.experiment == 1], rules=rules)
        ours = {r: one(means, rules=rules, reduction=r) for r in semantic.REDUCTIONS}
        row = [rules.replace("_", "-"), percent(said.asr, said.asr_sd_epochs), percent(said.ba_clean_zero)]
        order = ("mean_log",) if rules == "none" else ("legacy_window", "log_mean", "mean_log")
        shown = [cell(ours[r], "asr") if r in order else "" for r in ("legacy_window", "log_mean", "mean_log")]
        best = ours["mean_log"]
        more = ["" if best is None else f"{best.auc_attack:.3f}", cell(best, "ba_clean"), cell(ours["legacy_window"], "ba_clean") if rules != "none" else "", cell(best, "satisfied_clean")]  # fmt: skip
        rows.append([*row, *shown, *more, seeds_of(ours, order)])
    head = [
        "rules", "ASR, published", "BA, published", "ASR, as-published arithmetic", "ASR, −log of the mean",
        "**ASR, right**", "AUC of the attack, right", "BA, right", "BA, as-published arithmetic", "base rules kept, right",
        "seeds",
    ]  # fmt: skip
    return markdown(head, rows)


def seeds_of(ours, order):
    """Number of seeds of each arithmetic, in the order of the columns."""
    counts = ["0" if ours[r] is None else str(int(ours[r].seeds)) for r in order]
    return "/".join(counts)


def verdict(means):
    """The thesis's claims about rules, each with what it was and what it is; numbers from the table alone."""
    row = {(r.rules, r.reduction): r for r in means.itertuples()}
    plain, words = row.get(("none", "mean_log")), []
    for rules, claim in CLAIMS.items():
        right, legacy = row.get((rules, "mean_log")), row.get((rules, "legacy_window"))
        if right is None or plain is None:
            continue
        gap, several = 100 * (plain.asr - right.asr), min(plain.seeds, right.seeds) > 1
        spread = 100 * np.hypot(plain.asr_sd, right.asr_sd) if several else np.nan
        far = (
            f"{abs(gap) / spread:.1f} times the spread between {int(min(plain.seeds, right.seeds))} seeds"
            if several
            else "one seed, so without a spread"
        )
        helps = gap > 10 and (not several or gap > 2 * spread)
        words.append(
            f"**{rules.replace('_', '-')}.** Thesis: {claim} Right columns: ASR {percent(right.asr, right.asr_sd)} % against "
            f"{percent(plain.asr, plain.asr_sd)} % without rules ({abs(gap):.1f} points {'less' if gap >= 0 else 'more'}; {far}), balanced accuracy "
            f"{percent(right.ba_clean, right.ba_clean_sd)} % against {percent(plain.ba_clean, plain.ba_clean_sd)} %"
            + (
                f"; with the published arithmetic ASR {percent(legacy.asr, legacy.asr_sd)} %"
                if legacy is not None
                else ""
            )
            + f". **At this size: {VERDICTS[rules][bool(helps)]}** At a threshold of 0.5 in place of 0.6 the ASR is {percent(right.asr_50)} % ({percent(plain.asr_50)} % without rules); without a threshold the trigger still ranks triggered faces above clean "
            f"ones with AUC {right.auc_attack:.3f} ({plain.auc_attack:.3f} without rules)."
        )
    return words


CLAIMS = {
    "base": "rules about the target and others lower the attack's success.",
    "target_focused": "four rules about the target alone do not help.",
    "targetless": "rules that do not name the target do not help.",
}
VERDICTS = {  # whether the rules, rightly computed, lower the attack success rate
    "base": {True: "confirmed, and stronger than published.", False: "not confirmed."},
    "target_focused": {True: "refuted, an artefact of the scrambled columns.", False: "confirmed."},
    "targetless": {True: "refuted.", False: "confirmed."},
}


def weights(means, published):
    rows = []
    for rules in ("base", "target_focused"):
        for weight in sorted(means.sl_weight.unique()):
            said = one(published[published.experiment == 2], rules=rules, sl_weight=weight)
            right, legacy = (
                one(means, rules=rules, sl_weight=weight, reduction=r) for r in ("mean_log", "legacy_window")
            )
            if right is None and legacy is None:
                continue
            rows.append([
                rules.replace("_", "-"), f"{weight:g}", percent(said.asr), percent(said.ba_clean_zero),
                cell(right, "asr"), cell(right, "ba_clean"), cell(right, "satisfied_clean"), cell(legacy, "asr"),
                cell(legacy, "ba_clean"), "/".join("0" if r is None else str(int(r.seeds)) for r in (right, legacy)),
            ])  # fmt: skip
    head = [
        "rules", "weight", "ASR, published", "BA, published", "**ASR, right**", "BA, right", "base rules kept, right",
        "ASR, as-published arithmetic", "BA, as-published arithmetic", "seeds (right/as published)",
    ]  # fmt: skip
    return markdown(head, rows)


def triggers(means, published):
    rows = []
    for row in means.itertuples():
        said = one(published[published.experiment == 3], trigger=row.trigger)
        first = row.first_epoch_above_half
        rows.append([
            row.trigger.replace("_", " "), percent(said.asr, said.asr_sd_epochs), percent(row.asr_last, row.asr_sd_epochs),
            percent(row.asr_mean_all_epochs), "never" if first != first else f"{first:.1f}",
            f"{row.auc_attack_epoch_1:.3f}", f"{row.auc_attack_last:.3f}", int(row.seeds),
        ])  # fmt: skip
    head = ["trigger", "ASR, published", "ASR, last epochs", "mean over all epochs", "first epoch with ASR > 50 %",
            "AUC, epoch 1", "AUC, last epochs", "seeds"]  # fmt: skip
    return markdown(head, rows)


def heads(grid):
    rows = [
        [r.head_rules.replace("_", "-"), f"{r.head_weight:g}", f"{r.reg:g}", f"{r.fraction:g}", f"{r.slope:.4g}", f"{r.loss:.3f}",
         f"{r.loss_1:.3f}", percent(r.asr_0), percent(r.asr_1), f"{r.nu:.3g}", f"{r.rho_relative:.3f}", f"{r.smallest_eigenvalue:.2g}"]
        for r in grid[grid.status == "ok"].itertuples()
    ]  # fmt: skip
    head = [
        "rules",
        "weight",
        "λ",
        "p",
        "slope",
        "loss, β = 0",
        "β = 1",
        "ASR, β = 0",
        "β = 1",
        "ν",
        "ρ(1)/ρ(0)",
        "smallest eigenvalue",
    ]
    failed = [
        [
            r.head_rules.replace("_", "-"),
            f"{r.head_weight:g}",
            f"{r.reg:g}",
            f"{r.fraction:g}",
            "no minimum found",
            *[""] * 7,
        ]
        for r in grid[grid.status != "ok"].itertuples()
    ]
    return markdown(head, rows + failed)


# %% The page
def write(tables, place):
    table = {
        name: pd.read_csv(Path(tables) / f"semantic_{name}.csv")
        for name in (
            "models",
            "models_means",
            "weights_means",
            "triggers_means",
            "beta",
            "link",
            "link_correlations",
            "head",
            "head_drawn",
        )
        if (Path(tables) / f"semantic_{name}.csv").exists()
    }
    published, size = semantic.published(), semantic.SIZES["cpu"]
    size = {**size, "double": 2 * size["width"], "four": 4 * size["width"]}
    parts = [BEGIN, TEXT.format(**size, seeds=table["models"].seed.nunique(), runs=len(table["models"].groupby(["rules", "reduction", "seed"])))]  # fmt: skip
    parts += [headline(table["models_means"], published), "\n".join(f"- {w}" for w in verdict(table["models_means"]))]
    if "weights_means" in table:
        parts += ["### Weight of the semantic loss", WEIGHTS, weights(table["weights_means"], published)]
        parts += ["![ASR and balanced accuracy over the weight](images/semantic/semantic_weights.png)"]
    if "triggers_means" in table:
        parts += ["### How fast each trigger is learned", TRIGGERS, triggers(table["triggers_means"], published)]
        parts += ["![ASR over epochs and over beta](images/semantic/semantic_triggers.png)"]
    if "link" in table:
        parts += ["### Does the last layer's slope predict the attack's success?", LINK]
        found = table["link_correlations"]
        rows = [
            [r.networks, r.x, r.y, f"{r.rho:+.2f}", f"[{r.low:+.2f}, {r.high:+.2f}]", int(r.n)]
            for r in found.itertuples()
        ]
        parts += [
            markdown(
                ["networks", "slope", "score of the trained network", "rank correlation", "95 % interval", "networks"],
                rows,
            )
        ]
        parts += ["![Slope against ASR](images/semantic/semantic_link.png)"]
    if "head_drawn" in table:
        parts += ["### The last layer over λ, p, weight and rules: drawn faces", HEAD_DRAWN, heads(table["head_drawn"])]
    if "head" in table:
        parts += ["### The last layer over λ, p, weight and rules", HEAD, heads(table["head"])]
    missing = [words for name, words in LATER.items() if name not in table]
    if missing:
        parts += ["### Not run yet", LATER_HEAD, "\n".join(f"- {words}" for words in missing)]
    parts += [END]
    text = "\n\n".join(part.strip() for part in parts if part)
    old = place.read_text() if place.exists() else "# The semantic loss\n"
    if BEGIN in old:
        before, _, rest = old.partition(BEGIN)
        text = before.rstrip() + "\n\n" + text + rest.partition(END)[2].rstrip()
    else:
        text = old.rstrip() + "\n\n" + text
    write_atomic(place, (text.rstrip() + "\n").encode())


TEXT = """
## The study on CelebA, beside what was published

The thesis [Becerra Merodio, "Benchmarking the Robustness of Neuro-Symbolic Learning against Backdoor Attacks", TU Delft 2025]
trains the network of `learningcurves.networks.attribute_net` on CelebA with 10 % of the faces stamped with a red square and
labelled "Mustache", with and without a semantic loss. Its semantic loss read scrambled columns (above), so its claims are
measured here three times: with the published arithmetic (`legacy_window`), with right columns and the −log of the batch's
mean probability (`log_mean`), and with right columns and the mean of −log (`mean_log`, "right").

**Smaller than the thesis.** {n_train} training and {n_test} test faces of {size}x{size} pixels (the thesis: 130,216 and
32,554 of 64x64), {epochs} epochs (30), channels {width}-{double}-{four} (32-64-128), batches of 64; {seeds} seeds, {runs}
networks in this table; means over the last {last} epochs, ± the standard deviation between seeds. The trigger is 5 pixels
wide as there, on images half as wide. Published numbers: mean over the last 10 of 30 epochs of one run, ± between epochs;
published BA counts attributes without positives as 0. ASR: share of all triggered test faces with P(Mustache) > 0.6, in
percent. Everything below is computed from `analyses/tables/semantic_*.csv`, which `analyses/30_semantic_models.py` to
`33_semantic_slopes.py` write; the thesis's size is `--size thesis`, for a GPU. No face of CelebA is in this project.
"""
WEIGHTS = """
Claim: a larger weight lowers the attack's success and costs balanced accuracy. Right and as-published arithmetic beside it.
"""
TRIGGERS = """
Base rules at weight 0.2, right columns. The thesis compares the last epoch alone; the columns on the right say how the ASR got
there, and the AUC (triggered faces without a mustache ranked above the same faces without trigger; 0.5: no backdoor, 1: the
trigger always raises the probability) does not depend on the threshold 0.6.
"""
LINK = """
Each trained network, at β = 1: the last layer is solved anew on its frozen features, standardised,
at β = 0, and its slope is the derivative of the triggered loss of "Mustache" in β. `slope` has the network's own rules and
weight in the right loss (whatever loss the network was trained with), `slope_plain` none. The features are those of the *poisoned* network. A negative correlation with the ASR means that a
steeper fall of the loss goes with more success. The intervals are bootstraps over networks, which are few and come in groups: most
of the correlation is between rules, right or not, that hold the target back and those that do not.
"""
HEAD = """
Features of the network trained without rules at β = 0 (it never saw the trigger). The Hessian is the exact one, covariance
included; the smallest eigenvalue by Lanczos is positive wherever a slope is given.
"""

HEAD_DRAWN = """
On 120 SYNTHETIC faces, drawn, not CelebA's (`33_semantic_slopes.py --small`); a small set of rules about beards and hair. The
features are those of the network trained without rules at β = 0. A solve that found no minimum has no number. Where no rule
names the target (targetless), its row of the head is a problem of its own: loss, slope and curve are exactly those without rules,
which is why such rules cannot help a last layer. ν and ρ are of all rows together.
"""
LATER_HEAD = "Written, and run on drawn faces (`--small`), but not yet on CelebA; the commands go on where they stop."
LATER = {
    "weights_means": "`analyses/31_semantic_weights.py`: weights 0.1 to 2, base and target-focused.",
    "triggers_means": "`analyses/32_semantic_triggers.py`: nine triggers over epochs; ASR over beta.",
    "head": "`analyses/33_semantic_slopes.py`, second part: the last layer over lambda, p, weight and rules.",
}

# %% Run
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--tables", type=Path, default=study.TABLES)
    parser.add_argument("--out", type=Path, default=PLACE, help="page whose part between the marks is replaced")
    given = parser.parse_args()
    write(given.tables, given.out)
    print(given.out)
