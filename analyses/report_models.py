"""Sections of the report: parameter deviation, explanations, what the paper left open, features, run times."""

from report_tools import (
    LEARNERS,
    claim,
    commands,
    have,
    markdown,
    number,
    of_pair,
    percent,
    picture,
    section,
    spread,
    table,
)


# %% 3. Parameter deviation
def deviation():
    kinds = have("growth")
    return section(
        "## 3. Parameter deviation",
        commands(
            *(f"python analyses/03_deviation.py --pairs {kind} --tables analyses/tables" for kind, _ in kinds),
            "python figures/fig_deviation.py",
        ),
        *(_growth(kind, found) for kind, found in kinds),
        *(_zero_weights(kind, found) for kind, found in have("zero_weights")),
    )


def _growth(kind, found):
    taken = found[found.n_learned == found.n]
    rows = []
    for learner, group in found.groupby("learner", sort=False):
        learned = taken[taken.learner == learner].growth
        facts = [f"{learned.min():.2f} – {learned.max():.2f}", f"{learned.median():.2f}", int((learned <= 1).sum())]
        rows.append([LEARNERS[learner], len(group), len(learned), *(facts if len(learned) else ["", "", ""])])
    rbf, linear = taken[taken.learner == "rbf_svm"].growth, taken[taken.learner != "rbf_svm"].growth
    ours = [
        f"{name}: {(g > 1).sum()} of {len(g)} settings that learn it grow, median and 10-90 % {spread(g)} times"
        if len(g) else f"{name}: no setting learns it in every run"
        for name, g in (("RBF", rbf), ("linear", linear))
    ]  # fmt: skip
    return section(
        f"{kind}: growth ρ(1)/ρ(0) of the weights, median over {int(found.n.iloc[0])} seeds, in the settings (pair, λ, γ) "
        f"in which every run reaches BK ≥ {found.threshold.iloc[0]:g} with a clean accuracy of at least 0.8.",
        markdown(["learner", "settings", "learn it", "growth", "median", "do not grow"], rows),
        claim(
            "linear models must grow more complex to learn a backdoor, nonlinear ones need not",
            "drawn only; its RBF paths start from a wrong point (below)",
            "; ".join(ours),
            _growth_verdict(rbf, linear),
        ),
        picture(f"deviation_{kind}_linear", f"{kind}, first pair: paths of linear learners in the order of β"),
        picture(f"deviation_{kind}_rbf", f"{kind}, first pair: paths of the RBF SVM"),
        picture(f"growth_{kind}", f"{kind}: growth of the weights against BK, every setting a point"),
    )


def _growth_verdict(rbf, linear):
    if not len(rbf):
        return "no RBF setting learns the backdoor in all runs: cannot be said"
    if (rbf <= 1).any():
        return f"survives in part: {(rbf <= 1).sum()} of {len(rbf)} RBF settings learn it without growing"
    less = len(linear) and rbf.median() < linear.median()
    return "does not survive: every RBF setting that learns it grows" + (
        f", though less than linear learners do (median {rbf.median():.2f} against {linear.median():.2f} times)" if less else ""
    )  # fmt: skip


def _zero_weights(kind, found):
    rows = [
        [of_pair(r.pair), number(r.gamma), number(r.rho_shifted, 4), number(r.rho_right, 4), number(r.rho_at_1, 4)]
        for r in found.itertuples()
    ]
    return section(
        f"{kind}: ρ(0) of the RBF SVM at λ = 0.01, from `SVC` with weights of 0 and its indices taken literally, and right.",
        markdown(["pair", "γ", "ρ(0), shifted indices", "ρ(0), right", "ρ(1)"], rows),
    )


# %% 4. Explanations
def explanations():
    kinds = have("explanations")
    return section(
        "## 4. Explanations",
        commands(
            *(f"python analyses/04_explanations.py --pairs {kind} --tables analyses/tables" for kind, _ in kinds),
            "python figures/fig_explanations.py",
        ),
        "Share of the squared input gradient on the patch, in the clean and in the poisoned model (median over triggered "
        "test samples; *rises*: in how many of them); share of backdoor samples among the seven most helpful and the seven "
        "most harmful training samples at β = 1. On features the gradient goes on through the frozen network to the pixels.",
        *(_explained(kind, found) for kind, found in kinds),
        "Helpful means a negative influence on the triggered loss, harmful a positive one. Under a hinge loss only samples "
        "at their bound have influence, and a test sample beyond the margin is influenced by none: backdoor samples that "
        "became margin support vectors of the RBF SVM do not show, although the model rests on them.",
    )


SIDES = {"mnist": 28, "cifar10": 32}  # of the images, in pixels


def _explained(kind, found):
    rows = [
        [of_pair(r.pair), LEARNERS[r.learner], number(r.reg), f"{r.patch_share_clean:.1%}", f"{r.patch_share_poisoned:.1%}",
         f"{r.n_more} of {r.n_gradients}", percent(r.backdoor_share_helpful), percent(r.backdoor_share_harmful), r.n_tests]
        for r in found.itertuples()
    ]  # fmt: skip
    head = [
        "pair",
        "learner",
        "λ",
        "patch, clean",
        "patch, poisoned",
        "rises",
        "helpful",
        "harmful",
        "samples influenced",
    ]
    more, all_ = int(found.n_more.sum()), int(found.n_gradients.sum())
    area = (int(found.trigger.iloc[0].split("-")[1]) / SIDES[kind]) ** 2
    gradient = "confirmed" if more == all_ else f"rises in {more / all_:.0%} of the samples"
    if found.patch_share_poisoned.median() < area:
        gradient = f"not confirmed: it rises, but stays below the patch's {area:.1%} of the image's area"
    by = found.groupby("learner", sort=False).backdoor_share_helpful.median()
    influence = "; ".join(
        f"{LEARNERS[n]} " + ("not defined" if v != v else "confirmed" if v > 0.5 else "not confirmed")
        for n, v in by.items()
    )
    return section(
        f"{kind}, {found.trigger.iloc[0]}:",
        markdown(head, rows),
        claim(
            "the poisoned model looks at the trigger, and backdoor samples are the most influential",
            "pictures only",
            f"gradient on the patch {found.patch_share_clean.median():.1%} → {found.patch_share_poisoned.median():.1%} "
            f"(medians), rises in {more} of {all_}; backdoor samples among the most helpful: "
            + ", ".join(f"{LEARNERS[n]} {percent(v)}" for n, v in by.items()),
            f"gradient: {gradient}; influence: {influence}",
        ),
        picture(f"gradients_{kind}_logistic", f"{kind}, first pair: input gradients of logistic regression before and after poisoning"),
        picture(f"gradients_{kind}_rbf_svm", f"{kind}, first pair: input gradients of the RBF SVM before and after poisoning"),
        picture(f"influence_{kind}", f"{kind}, first pair: most helpful and most harmful training samples of a triggered test sample"),
    )  # fmt: skip


# %% 6. Beyond the paper
def beyond():
    said = table("sentences_mnist")
    if said is None:
        return ""
    runs = table("beyond_mnist")
    repeats = runs.groupby("axis").repeat.nunique()
    parts = []
    for r in said.itertuples():
        parts += [f"- {r.sentence}", picture(f"beyond_mnist_{r.axis}", f"{r.axis}: BK and −slope at λ = 1")]
    return section(
        "## 6. Beyond the paper",
        commands("python analyses/06_beyond.py --tables analyses/tables", "python figures/fig_beyond.py --data mnist"),
        f"MNIST, random draws, {repeats.min()} to {repeats.max()} repeats; one axis moves, the others stay at a 3×3 patch of "
        "each class's own, p = 0.1, 1500 samples, two classes that change places. The number of classes has one shared patch "
        "and one target (BK without the target's own samples), 5 % of all samples poisoned, and images of 14×14. Rank correlations are at fixed learner and λ, with 95 % intervals over "
        "repeats; bars in the figures span the repeats.",
        *parts,
        "A reading of the trigger's shape: with one patch for both classes and swapped labels the patch has to push some "
        "samples up and others down, which a linear score cannot do; a patch of its own for each class, as published, or one "
        "target for all can be learned.",
        _faint(runs),
    )


def _faint(runs):
    """Say by how much slope and BK grow from the faintest to the full patch."""
    part = runs[(runs.axis == "strength") & (runs.reg == 1)]
    ends = part.groupby(["learner", "value"], sort=False)[["slope", "bk"]].median()
    first, last = (ends.xs(value, level="value") for value in (part.value.iloc[0], part.value.iloc[-1]))
    words = "; ".join(
        f"{LEARNERS[name]} {number(last.slope[name] / first.slope[name], 2)} times, BK {number(first.bk[name], 2)} to "
        f"{number(last.bk[name], 2)}"
        for name in first.index
    )
    return (
        f"A reading of its strength: at λ = 1 the slope grows from α = {part.value.iloc[0]} to {part.value.iloc[-1]} by — {words}. "
        "Samples with a faint trigger and a flipped label are hard for the clean model, which makes the slope of a margin loss "
        "steep before there is a trigger to learn."
    )


# %% 7. The features, 8. The time it took
TOLD = 0.771  # top-1 accuracy in the documentation of the weights


def features():
    found = table("extractor")
    if found is None:
        return ""
    rows = [
        [r.variant, r.what, f"{r.top1:.1%} ± {r.top1_error:.1%}", f"{r.top5:.1%}", f"{r.loss_more:+.2f} ± {r.loss_more_error:.2f}"]
        for r in found.itertuples()
    ]  # fmt: skip
    base, halved = found.iloc[0], found[found.variant == "detail lost"].iloc[0]
    enlarging, mistakes = (found[found.variant == name] for name in ("enlarging", "mistake"))
    worse = mistakes[mistakes.loss_more > 2 * mistakes.loss_more_error]
    return section(
        "## 7. The features",
        commands("python analyses/10_extractor.py --tables analyses/tables"),
        f"MobileNetV2 from 8-bit weights, among 1001 classes, on {base.n} Imagenette validation pictures that were stored at "
        "112 pixels; *loss more*: mean over the pictures of the loss against the first row, with its standard error.",
        markdown(["variant", "", "top 1", "top 5", "loss more (nats)"], rows),
        f"The weights' documentation tells {TOLD:.1%} on 350 pictures of the full 224 pixels, which are not at hand; ours are "
        f"{base.top1:.1%}. No fault of the extractor was found: no other way of enlarging gains more than "
        f"{number((enlarging.top1 - base.top1).max() * 100, 2)} points, and {len(worse)} of {len(mistakes)} mistakes that it "
        f"might have made raise the loss by more than two standard errors, {int((mistakes.loss_more < 0).sum())} lower it. What "
        f"is missing is detail: halving the pictures once more costs {number((base.top1 - halved.top1) * 100, 2)} points, of the "
        f"same size as the {number((TOLD - base.top1) * 100, 2)} points between the two numbers.",
    )


STEMS = {"00": "released_curves", "01": "curves", "02": "slopes", "03": "growth", "04": "explanations", "05": "regions",
         "06": "beyond"}  # fmt: skip


def times():
    found = table("times")
    if found is None:
        return ""
    found = found.assign(number=[f"{int(n):02d}" for n in found.analysis]).sort_values(["data", "number"])
    rows = [
        [r.number, r.data, r.cells, f"{r.cpu_seconds / 60:.1f}" + " *" * (not r.measured), r.runs]
        for r in found.itertuples()
    ]
    known = set(zip(found.number, found.data, strict=True))
    untimed = [f"{n} {kind}" for n, stem in STEMS.items() for kind, _ in have(stem) if (n, kind) not in known]
    total = found.groupby("data").cpu_seconds.sum() / 60
    words = "; ".join(f"{data}: {minutes:.1f} minutes of one core" for data, minutes in total.items())
    return section(
        "## 8. What it took",
        "CPU time of the runs that made these tables, features, bootstraps and imports included, one process of one thread, "
        "on a machine busy with other work, which makes CPU time longer. Features are computed once and kept: they count in "
        "the analysis that was the first to need them, 02 where it ran first. Runs: an analysis that was stopped went on in "
        "another run, and the time is the sum; cells that were under way when it was stopped are in it twice.",
        markdown(["analysis", "data", "cells", "CPU minutes", "runs"], rows),
        "\\* not measured as a whole: put together from runs that were stopped, those at a limit of CPU time counted with "
        "that limit; the regions of 05 were run anew since, over more triggers."
        if not found.measured.all()
        else "",
        f"In all — {words}. Cells are independent: `--n-jobs 2` shares that between two cores.",
        f"Not timed: {', '.join(untimed)}, whose tables are older than this record or of a run that was not finished."
        if untimed
        else "",
    )
