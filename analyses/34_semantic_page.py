"""What do the semantic-loss experiments say, beside what was published?"""

# %% Question
import argparse
from pathlib import Path

import pandas as pd
import semantic_study as semantic
import semantic_tables as tables
import semantic_verdicts as verdicts
import study

from learningcurves.storage import write_atomic

QUESTION = __doc__
BEGIN, END = "<!-- study: written by analyses/34_semantic_page.py -->", "<!-- end of the study -->"
PLACE = study.HERE.parent / "docs" / "semantic-loss.md"
NAMES = (
    "models", "models_means", "weights_means", "triggers_means", "beta", "link_correlations", "head", "head_drawn",
)  # fmt: skip


# %% The page
def write(folder, place):
    """Replace the part of the page between the marks."""
    paths = {name: Path(folder) / f"semantic_{name}.csv" for name in NAMES}
    table = {name: pd.read_csv(path) for name, path in paths.items() if path.exists()}
    parts = [BEGIN, *sections(table, semantic.published()), END]
    text = "\n\n".join(part.strip() for part in parts if part)
    before, _, rest = place.read_text().partition(BEGIN)
    text = before.rstrip() + "\n\n" + text + rest.partition(END)[2].rstrip()
    write_atomic(place, (text.rstrip() + "\n").encode())


def sections(table, published):
    """The sections whose tables are there, then what is missing."""
    means, size = table["models_means"], dict(semantic.SIZES["cpu"])
    size |= {"double": 2 * size["width"], "four": 4 * size["width"]}
    yield INTRODUCTION.format(**size)
    yield verdicts.claims(means, table.get("weights_means"), table.get("triggers_means"), published)
    yield from ("### Rules and arithmetic", MODELS, tables.models(means, published), verdicts.mechanism(means))
    yield from (verdicts.seeds_apart(table["models"]), SURROGATE, verdicts.surrogate(means))
    if "weights_means" in table:
        yield from ("### Weight of the semantic loss", WEIGHTS, tables.weights(table["weights_means"], published))
        yield picture("ASR and balanced accuracy over the weight", "semantic_weights")
    if "triggers_means" in table:
        yield from (
            "### How fast each trigger is learned",
            TRIGGERS,
            tables.triggers(table["triggers_means"], published),
        )
        yield picture("ASR and AUC over epochs, ASR over beta", "semantic_triggers")
    if "beta" in table:
        yield from (BETAS, tables.betas(table["beta"]))
    if "link_correlations" in table:
        yield from (
            "### Does the last layer's slope predict the attack's success?",
            LINK,
            tables.link(table["link_correlations"]),
        )
        yield verdicts.link(table["link_correlations"])
        yield picture("ASR of the networks against slope and ASR of the last layer", "semantic_link")
    for name, title, words in (("head", "", HEAD), ("head_drawn", ": drawn faces", HEAD_DRAWN)):
        if name in table and (name == "head" or "head" not in table):
            yield from (f"### The last layer over λ, p, weight and rules{title}", words, tables.heads(table[name]))
            if name == "head":
                yield picture("Slope over lambda, loss over beta", "semantic_head")
    missing = [words for name, words in LATER.items() if name not in table] + unfinished(table)
    if missing:
        yield from ("### Not run yet", LATER_HEAD, "\n".join(f"- {words}" for words in missing))


def unfinished(table):
    """What the tables have fewer of than the analyses ask for."""
    words, seeds = [], len(semantic.SEEDS)
    few = [f"{r.rules} {r.reduction} ({r.seeds})" for r in table["models_means"].itertuples() if r.seeds < seeds]
    if few:
        words.append(f"`30_semantic_models.py`: {seeds} seeds of {', '.join(few)}.")
    if "weights_means" in table:
        found = table["weights_means"]
        one = {r: (found[found.reduction == r].seeds < seeds).sum() for r in ("mean_log", "legacy_window")}
        none = {r: 10 - (found.reduction == r).sum() for r in one}
        words += [
            f"`31_semantic_weights.py`, `{r}`: of its 10 models, {none[r]} have no network and {one[r]} fewer than {seeds} seeds."
            for r in one
            if none[r] or one[r]
        ]
    if "triggers_means" in table:
        found = table["triggers_means"]
        words.append(
            f"`32_semantic_triggers.py`: of its {len(semantic.TRIGGERS)} triggers, {len(semantic.TRIGGERS) - len(found)} have no "
            f"network and {(found.seeds < seeds).sum()} fewer than {seeds} seeds."
        )
    return words


def picture(words, name):
    return f"![{words}](images/semantic/{name}.png)"


# %% Words; every number is in the tables
INTRODUCTION = """
## The study on CelebA, beside what was published

The thesis [Becerra Merodio, "Benchmarking the Robustness of Neuro-Symbolic Learning against Backdoor Attacks", TU Delft 2025]
trains the network of `learningcurves.networks.attribute_net` on CelebA with 10 % of the faces stamped with a red square and
labelled "Mustache", with and without a semantic loss. Its semantic loss read scrambled columns (above), so its claims are
measured here three times: with the published arithmetic (`legacy_window`), with right columns and the −log of the batch's
mean probability (`log_mean`), and with right columns and the mean of −log (`mean_log`, "right").

**Smaller than the thesis.** {n_train} training and {n_test} test faces of {size}x{size} pixels (the thesis: 130,216 and
32,554 of 64x64), {epochs} epochs (30), channels {width}-{double}-{four} (32-64-128), batches of 64. Numbers are means over the last
{last} epochs, then over seeds, ± the standard deviation between seeds (none where there is one seed). Published numbers are
means over the last 10 of 30 epochs of one run, ± between epochs; published BA counts attributes without positives as 0.
ASR: share of all triggered test faces with P(Mustache) > 0.6, in percent. The trigger is 5 pixels wide as there, on images half
as wide. Everything below is computed from `analyses/tables/semantic_*.csv`, which `analyses/30_semantic_models.py` to
`33_semantic_slopes.py` write; `--size thesis` is the thesis's size. No face of CelebA is in this project.
"""
MODELS = """
"P(Mustache) of women": medians. ASR at 5 % false positives: at the threshold that 5 % of the clean faces without a mustache pass. AUC of
the attack: triggered faces without a mustache ranked above the same faces without the trigger, whatever the threshold (0.5: no
backdoor, 1: the trigger always raises the probability).
"""
SURROGATE = """
A surrogate in place of images (CelebA's labels, noisy linear features of them, a small perceptron; not part of this project)
had suggested these numbers before the networks were trained:
"""
WEIGHTS = """
Both published trends, and what becomes of them. Balanced accuracy is to be read beside the audit above: a third of CelebA's true
labels keep the base rules, nearly all keep the target-focused ones.
"""
TRIGGERS = """
Base rules at weight 0.2, right columns. The thesis compares the last epoch alone; how the network got there is in the columns
on the right. An AUC below 0.5: at first the trigger lowers the probability.
"""
BETAS = """
ASR over the weight β of the backdoor samples, from training without them to training as the attacker wants it:
"""
LINK = """
Each trained network, at β = 1: the last layer is solved anew on its frozen features, standardised, at β = 0, and its slope is the
derivative of the triggered loss of "Mustache" in β (`33_semantic_slopes.py`); beside it the ASR of that last layer at β = 1. The features are those of the *poisoned* network. A negative correlation with the
ASR means that a steeper fall of the loss goes with more success. Networks of one model (rules, arithmetic, weight) differ by their
seed alone and are no independent evidence: the bootstrap draws whole models. *Rules that name the target* leaves out the networks
without such rules, which all have an ASR near 100 %: is there more in the slope than whether rules hold the target back?
"""
HEAD = """
Features of the network trained without rules at β = 0 (it never saw the trigger). The Hessian is the exact one, covariance
included; the smallest eigenvalue by Lanczos is positive wherever a slope is given, and a solve that found no minimum has no number.
Where no rule names the target (targetless), its row of the head is a problem of its own: loss, slope and curve are exactly those
without rules, which is why such rules cannot help a last layer. ν and ρ are of all rows together.
"""
HEAD_DRAWN = (
    "On 120 SYNTHETIC faces, drawn, not CelebA's (`33_semantic_slopes.py --small`), with a small set of rules." + HEAD
)
LATER_HEAD = "The commands go on where they stop."
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
