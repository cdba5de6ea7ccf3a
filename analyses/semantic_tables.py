"""The tables of the semantic-loss page: what was measured, in words, beside what was published."""

import numpy as np
import semantic_study as semantic
from semantic_verdicts import cell, markdown, one, percent, spoken

ARITHMETIC = {"legacy_window": "as published, here", "log_mean": "−log of the mean", "mean_log": "**right**"}


def models(means, published):
    """Rules and arithmetic at weight 0.2: last-epochs means."""
    rows, said = [], published[published.experiment == 1]
    for rules in ("none", *semantic.RULES):
        row = one(said, rules=rules)
        theirs = [percent(row.asr, row.asr_sd_epochs), *[""] * 5, percent(row.ba_clean_zero), ""]
        rows.append([spoken(rules), "the thesis", "1", *theirs])
        for reduction in ARITHMETIC if rules != "none" else ("mean_log",):
            row = one(means, rules=rules, reduction=reduction)
            if row is None:
                continue
            arithmetic = "no semantic loss" if rules == "none" else ARITHMETIC[reduction]
            rows.append([
                spoken(rules), arithmetic, int(row.seeds),
                *(cell(row, name) for name in ("asr", "asr_men", "asr_women")),
                f"{row.p_women:.3f} → {row.p_women_triggered:.2f}", cell(row, "asr_fpr5"), f"{row.auc_attack:.3f}",
                cell(row, "ba_clean"), cell(row, "satisfied_clean"),
            ])  # fmt: skip
    head = ["rules", "arithmetic", "seeds", "ASR", "ASR, men", "ASR, women", "P(Mustache) of women, clean → triggered",
            "ASR at 5 % false positives", "AUC of the attack", "BA", "predictions that keep the base rules"]  # fmt: skip
    return markdown(head, rows)


def weights(means, published):
    """Two sets of rules over the weight."""
    rows, said = [], published[published.experiment == 2]
    for rules in ("base", "target_focused"):
        for weight in sorted(means.sl_weight.unique()):
            ours = [one(means, rules=rules, sl_weight=weight, reduction=r) for r in ("legacy_window", "mean_log")]
            if all(row is None for row in ours):
                continue
            theirs, right = one(said, rules=rules, sl_weight=weight), ours[1]
            rows.append([
                spoken(rules), f"{weight:g}", percent(theirs.asr), percent(theirs.ba_clean_zero),
                *(cell(row, name) for row in ours for name in ("asr", "ba_clean")),
                "" if right is None else f"{right.auc_attack:.3f}",
                "/".join("0" if r is None else str(int(r.seeds)) for r in ours),
            ])  # fmt: skip
    head = ["rules", "weight", "ASR, published", "BA, published", "ASR, as-published arithmetic", "BA, as-published arithmetic",
            "**ASR, right**", "**BA, right**", "AUC of the attack, right", "seeds"]  # fmt: skip
    return markdown(head, rows)


def triggers(means, published):
    """How soon each trigger is learned."""
    rows, said = [], published[published.experiment == 3]
    for row in means.itertuples():
        theirs, first = one(said, trigger=row.trigger), row.first_epoch_auc
        rows.append([
            row.trigger.replace("_", " "), percent(theirs.asr, theirs.asr_sd_epochs), percent(row.asr_last, row.asr_sd_epochs),
            f"{row.auc_attack_epoch_1:.3f}", "never" if first != first else f"{first:.1f}", f"{row.auc_attack_last:.3f}",
            int(row.seeds),
        ])  # fmt: skip
    head = ["trigger (side in pixels, place)", "ASR, published", "ASR, last epochs", "AUC after epoch 1",
            f"first epoch with AUC > {semantic.LEARNED:g}", "AUC, last epochs", "seeds"]  # fmt: skip
    return markdown(head, rows)


def betas(table):
    """Attack success over the weight of the backdoor samples."""
    last, rows = table[table.epoch > table.epoch.max() - semantic.SIZES["cpu"]["last"]], []
    for (rules, beta), group in last.groupby(["rules", "beta"], sort=False):
        each = group.groupby("seed")[["asr", "auc_attack", "ba_clean"]].mean()
        mean, sd = each.mean(), each.std() if len(each) > 1 else each.mean() * np.nan
        rows.append([
            spoken(rules), f"{beta:g}", percent(mean.asr, sd.asr), f"{mean.auc_attack:.3f}", percent(mean.ba_clean, sd.ba_clean),
            len(each),
        ])  # fmt: skip
    return markdown(["rules", "β", "ASR", "AUC of the attack", "BA", "seeds"], rows)


def link(found):
    """Rank correlations between slope and what the trained networks do."""
    rows = [
        [
            r.networks,
            LAYER[r.x],
            SCORES[r.y],
            f"{r.rho:+.2f}",
            f"[{r.low:+.2f}, {r.high:+.2f}]",
            f"{int(r.n)} / {int(r.models)}",
        ]
        for r in found[found.y != "loss_triggered"].itertuples()
    ]
    head = ["networks", "last layer, solved anew", "score of the trained network", "rank correlation", "95 % interval",
            "networks / models"]  # fmt: skip
    return markdown(head, rows)


LAYER = {
    "slope": "slope at β = 0, with the network's rules",
    "slope_plain": "slope at β = 0, without rules",
    "asr_head": "its own ASR at β = 1, with the network's rules",
}
SCORES = {"asr": "ASR", "auc_attack": "AUC of the attack"}


def heads(grid):
    """The last layer over lambda, p, weight and rules."""
    rows = []
    for r in grid.itertuples():
        about = [spoken(r.head_rules), f"{r.head_weight:g}", f"{r.reg:g}", f"{r.fraction:g}"]
        if r.status != "ok" or r.slope != r.slope:
            guard = f"{r.smallest_eigenvalue:.2g}" if r.smallest_eigenvalue == r.smallest_eigenvalue else ""
            rows.append([*about, "no minimum found", *[""] * 6, guard])
            continue
        rows.append([
            *about, f"{r.slope:.4g}", f"{r.loss:.3f}", f"{r.loss_1:.3f}", percent(r.asr_0), percent(r.asr_1), f"{r.nu:.3g}",
            f"{r.rho_relative:.3f}", f"{r.smallest_eigenvalue:.2g}",
        ])  # fmt: skip
    head = ["rules", "weight", "λ", "p", "slope", "loss, β = 0", "β = 1", "ASR, β = 0", "β = 1", "ν", "ρ(1)/ρ(0)",
            "smallest eigenvalue"]  # fmt: skip
    return markdown(head, rows)
