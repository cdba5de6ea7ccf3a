"""The thesis's claims, each with what was published, what the published arithmetic gives here, and what is right.

Every number and every verdict comes from the tables; only the claims are written down.
"""

import numpy as np
import semantic_study as semantic

CLAIMS = {
    "base": "Rules about the target and others lower the attack's success",
    "target_focused": "Four rules about the target alone do not help",
    "targetless": "Rules that do not name the target do not help",
}
VERDICTS = {  # whether the rules, rightly computed, lower the attack success rate
    "base": {True: "confirmed, and stronger than published", False: "not confirmed"},
    "target_focused": {True: "refuted: an artefact of the scrambled columns", False: "confirmed"},
    "targetless": {True: "refuted", False: "confirmed"},
}
HELPS = 10  # points of attack success, and twice the spread between seeds, from which on rules are said to help
# a surrogate that stood in for the images: CelebA's labels, noisy linear features of them, a small perceptron
SURROGATE = {
    ("base", "legacy_window"): "81-94",
    ("base", "log_mean"): "87-91",
    ("base", "mean_log"): "37-40",
    ("target_focused", "mean_log"): "44-48",
    ("targetless", "legacy_window"): "99+",
    ("targetless", "log_mean"): "99+",
    ("targetless", "mean_log"): "99+",
}


# %% Tables to words


def percent(value, sd=np.nan):
    if value is None or value != value:
        return ""
    return f"{100 * value:.1f}" + (f" ± {100 * sd:.1f}" if sd == sd else "")


def markdown(head, rows):
    if any(len(row) != len(head) for row in rows):
        raise ValueError(
            f"a row has not the {len(head)} columns of its table: {[r for r in rows if len(r) != len(head)][0]}"
        )
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def one(table, **wanted):
    """The row of a table with these values, or None."""
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table.iloc[0] if len(table) else None


def cell(row, name):
    return "" if row is None else percent(row[name], row[f"{name}_sd"])


def spoken(rules):
    return rules.replace("_", "-")


# %% Verdicts


def claims(means, weights, triggers, published):
    """One row a claim; claims whose table is not there are left out."""
    first = published[published.experiment == 1]
    rows = [rule_claim(rules, means, first) for rules in CLAIMS]
    if weights is not None:
        second = published[published.experiment == 2]
        rows += [
            weight_claim(name, rules, weights, second) for name in ("asr", "ba") for rules in ("base", "target_focused")
        ]
    if triggers is not None:
        rows.append(trigger_claim(triggers, published[published.experiment == 3]))
    head = ["claim", "published", "as-published arithmetic, here", "**right columns, here**", "verdict at this size"]
    return markdown(head, [row for row in rows if row is not None])


def rule_claim(rules, means, published):
    """Whether rules lower the attack's success at weight 0.2."""
    plain, right, legacy = (
        one(means, rules=name, reduction=reduction)
        for name, reduction in (("none", "mean_log"), (rules, "mean_log"), (rules, "legacy_window"))
    )
    if plain is None or right is None:
        return None
    gap, spread = plain.asr - right.asr, np.hypot(plain.asr_sd, right.asr_sd)
    helps = 100 * gap > HELPS and (spread != spread or gap > 2 * spread)
    said, without = one(published, rules=rules), one(published, rules="none")
    return [
        f"**{spoken(rules)}.** {CLAIMS[rules]}",
        f"ASR {percent(said.asr)}; none: {percent(without.asr)}",
        f"ASR {cell(legacy, 'asr')}" if legacy is not None else "",
        f"ASR {cell(right, 'asr')}; none: {cell(plain, 'asr')}",
        f"**{VERDICTS[rules][bool(helps)]}**",
    ]


def weight_claim(name, rules, weights, published):
    """Whether attack success, or balanced accuracy, falls from the smallest to the largest weight."""
    ours, theirs = {"asr": ("asr", "asr"), "ba": ("ba_clean", "ba_clean_zero")}[name]
    ends = {}
    for reduction in ("legacy_window", "mean_log"):
        group = weights[(weights.rules == rules) & (weights.reduction == reduction)].sort_values("sl_weight")
        ends[reduction] = group if len(group) > 1 else None
    right = ends["mean_log"]
    if right is None:
        return None
    said = published[published.rules == rules].sort_values("sl_weight")

    def words(group, column):
        first, last = group.iloc[0], group.iloc[-1]
        return f"{percent(first[column])} → {percent(last[column])} (weight {first.sl_weight:g} → {last.sl_weight:g})"

    falls = [
        100 * (group[column].iloc[0] - group[column].iloc[-1]) for group, column in ((right, ours), (said, theirs))
    ]
    what = "Attack success" if name == "asr" else "Balanced accuracy"
    verdict = "confirmed" if falls[0] > 0.5 * falls[1] else "refuted" if falls[0] < 0.1 * falls[1] else "weaker"
    return [
        f"**{spoken(rules)}.** {what} falls as the weight rises",
        words(said, theirs),
        words(ends["legacy_window"], ours) if ends["legacy_window"] is not None else "",
        words(right, ours),
        f"**{verdict}**: by {falls[0]:.1f} points (published: {falls[1]:.1f})",
    ]


def trigger_claim(triggers, published):
    """How far the nine triggers lie apart at the end, against how far one of them swings between epochs."""

    def spread(values):
        return f"{percent(values.min())} to {percent(values.max())}"

    swing = triggers.asr_sd_epochs.mean()
    apart = triggers.asr_last.max() - triggers.asr_last.min()
    early = triggers.auc_attack_epoch_1
    verdict = "no more than one network swings" if apart < 4 * swing else "more than one network swings"
    return [
        "Size and place of the trigger, base rules: compared by the ASR of the last epoch",
        f"{len(published)} triggers: ASR {spread(published.asr_last_epoch)} in the last epoch; one network swings by ± {percent(published.asr_sd_epochs.mean())} between epochs",
        "",
        f"{len(triggers)} of them: ASR {spread(triggers.asr_last)}, ± {percent(swing)} between epochs; AUC after one epoch {early.min():.2f} to {early.max():.2f}",
        f"**the last epochs differ by {verdict}; the triggers differ in how fast they are learned**",
    ]


def mechanism(means):
    """What the rules that name the target, rightly computed, do to the attack: whom it still works on."""
    words = []
    for rules in ("base", "target_focused"):
        row, plain = one(means, rules=rules, reduction="mean_log"), one(means, rules="none", reduction="mean_log")
        if row is None or plain is None:
            return ""
        words.append(
            f"{spoken(rules)}: {percent(row.asr_men)} % of men, {percent(row.asr_women)} % of women (no rules: "
            f"{percent(plain.asr_men)} % and {percent(plain.asr_women)} %); the trigger lifts the median P(Mustache) of a woman "
            f"from {row.p_women:.3f} to {row.p_women_triggered:.2f}, and among women alone the AUC is {row.auc_women:.3f}"
        )
    return MECHANISM.format(words=". ".join(w[0].upper() + w[1:] for w in words))


MECHANISM = """
**Whom the rules protect.** Both sets say that who has a mustache is a man (42 % of CelebA's faces are). With the right loss the attack
works on men and stops at women. {words}. So the trigger is learned all the same; the rules hold its effect on women just below the
threshold, where they contradict what the network is sure of. An ASR near 40 % says how many of the faces are men more than how well the
network resists.
"""


def seeds_apart(models):
    """The published arithmetic with base rules, seed by seed: its mean says little."""
    part = models[(models.rules == "base") & (models.reduction == "legacy_window")]
    tail = part[part.epoch > part.epoch.max() - semantic.SIZES["cpu"]["last"]].groupby("seed")
    if tail.ngroups < 2:
        return ""
    each = ", ".join(percent(value) for value in tail.asr.mean())
    rates = tail.target_rate.mean()
    return SEEDS_APART.format(
        each=each, rate=percent(rates.mean()), auc=", ".join(f"{v:.3f}" for v in tail.auc_attack.mean())
    )


SEEDS_APART = """
**The published arithmetic with base rules is a matter of the seed.** ASR {each} % (AUC {auc}) for one seed each. There Mustache stands in
the place of other attributes, and these networks hardly ever predict it: on {rate} % of the clean faces, where 4 % have one. One run
of such a model, as was published, says nothing about the rules.
"""


def link(found):
    """Whether the last layer's slope, or its own success, goes with that of the networks."""
    rows = {(r.networks, r.x): r for r in found[found.y == "asr"].itertuples()}
    words = []
    for x, name in (("slope", "the slope at β = 0"), ("asr_head", "the last layer's own ASR at β = 1")):
        pairs = [(networks, rows[networks, x]) for networks in ("all", "right loss or none") if (networks, x) in rows]
        if not pairs:
            return ""
        each = "; ".join(f"{networks}: {r.rho:+.2f} [{r.low:+.2f}, {r.high:+.2f}]" for networks, r in pairs)
        sure = all(r.low * r.high > 0 for _, r in pairs)
        words.append(f"{name} **{'goes' if sure else 'does not reliably go'} with the ASR of the networks** ({each})")
    return f"Answer: {words[0]}; {words[1]}."


def surrogate(means):
    """What stood in for the images suggested, beside what the images say."""
    rows = []
    for (rules, reduction), said in SURROGATE.items():
        row = one(means, rules=rules, reduction=reduction)
        if row is not None:
            rows.append([spoken(rules), f"`{reduction}`", said, cell(row, "asr"), int(row.seeds)])
    return markdown(["rules", "arithmetic", "ASR, surrogate", "ASR, images", "seeds"], rows)
