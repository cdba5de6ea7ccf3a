"""What does every defence leave of every attack: success, accuracy, slope, and how few poisons bring the backdoor back?"""

# %% Question
import dataclasses

import attack_study as attacks
import numpy as np
import pandas as pd
import soda_study as soda
import study

import learningcurves as lc
from learningcurves.defences.soda_index import find_victim
from learningcurves.errors import SolveFailed
from learningcurves.plotting import save
from learningcurves.plotting.style import INK, PAGE, figure, group_styles, local, outside_legend

QUESTION = __doc__
ATTACKS = ("badnets", "blend", "flip", "oversampled")
SEMANTIC = ATTACKS[2:]  # on CIFAR-10, whose samples are features: nothing to put a stamp on
REPAIRS = {  # arguments of repair_soda
    "SODA paper": {"mode": "paper"},
    "SODA paper, top": {"mode": "paper", "select": "top"},
    "SODA code": {"mode": "code"},
    "SODA last layer": {"mode": "last_layer"},
    "influence": {"mode": "code", "score": "influence"},
}
DEFENCES = (
    "none", "finetune", "fineprune", "ANP", "Neural Cleanse", "last layer anew", "smoothing", *REPAIRS, "never attacked",
)  # fmt: skip
RELEARN = (0, 5, 20, 50)
FEW = 5  # poisons of the re-training that the table compares defences by
N_CLEAN, N_TEST = 500, 2000  # the defender's clean samples; test images of a re-training
ANP_STEPS, CLEANSE_STEPS = 500, 200  # published: 2,000 for ANP
LEVEL = 0.5  # ASR from which a backdoor counts as back


# %% Cells: an attack, a defence, a seed
def defended(network, cell, clean, victim, target):
    """Return the network after a defence that is told the true target, or None where it has nothing to go on."""
    name, seed = cell["defence"], cell["seed"]
    if name in ("none", "never attacked"):
        return network
    if name in ("finetune", "fineprune"):
        call = lc.defend_finetune if name == "finetune" else lc.defend_fineprune
        return call(network, clean, epochs=10, lr=0.02, seed=seed, progress=False).module
    if name == "ANP":
        return lc.defend_anp(network, clean, iterations=ANP_STEPS, seed=seed, progress=False).module
    if name == "Neural Cleanse":
        return unlearned(network, clean, target, seed)
    if name == "last layer anew":
        return lc.defend_last_layer(network, clean).module
    if name == "smoothing":
        return lc.defend_smoothing(network, clean, sigma=0.1, n_draws=10).module
    report = lc.detect_soda(network, clean)
    return lc.repair_soda(network, report, clean, target=target, victim=victim, seed=seed, **REPAIRS[name]).module


def unlearned(network, clean, target, seed):
    """Train on with clean samples and, once more each, with the trigger that was found for the target and their labels."""
    report = lc.detect_neural_cleanse(network, clean, steps=CLEANSE_STEPS, seed=seed)
    if not np.isfinite(report.size[target]):
        raise SolveFailed(f"no patch turns clean samples into class {target}.", lc.Status.MAX_STEPS)
    X, y = clean
    mask, pattern = report.masks[target], report.patterns[target]
    stamped = (1 - mask) * X + mask * pattern
    both = np.concatenate([X, stamped]).astype(X.dtype), np.concatenate([y, y])
    return lc.defend_finetune(network, both, epochs=10, lr=0.02, seed=seed, progress=False).module


def measure(cell):
    """Score the network, take the slope of its last layer, and train it again on a few poisons."""
    kind = "clean" if cell["defence"] == "never attacked" else cell["kind"]
    network = soda.network_of(cell, kind)
    problem = soda.attack(cell["data"], "flip" if cell["kind"] == "oversampled" else cell["kind"], cell["seed"])
    clean = soda.clean_part(cell["data"], cell["seed"], share=N_CLEAN / problem.n_clean)
    victim, target = soda.pair_of(cell["data"], cell["seed"])
    if cell["kind"] in ("badnets", "blend"):  # every class is attacked: the one that the activation names
        activation = lc.detect_soda(network, clean).activation
        victim = find_victim(activation[:, target], target, reverse=activation[target]).label
    try:
        after = defended(network, cell, clean, victim, target)
    except SolveFailed as error:
        return [{"what": "scores", "status": error.status.name.lower()}]
    row = {"what": "scores", **attacks.rates(after, problem), "n_poison": problem.n_backdoor, "n_clean": len(clean[1])}
    if cell["defence"] == "smoothing":  # votes have no head, and no gradient to train by
        return [row]
    row |= soda.head_slope(after, problem)
    few = dataclasses.replace(
        problem,
        **{
            name: getattr(problem, name)[:N_TEST]
            for name in ("X_test", "y_test", "X_triggered", "y_triggered", "y_source")
        },
    )
    counts = [k for k in RELEARN if k <= problem.n_backdoor]
    again = lc.relearn_curve(after, clean, few, counts=counts, epochs=5, lr=0.02, seeds=(0,))
    return [row, *({"what": "relearn", **found} for found in again.drop(columns="seed").to_dict("records"))]


# %% Tables
def by_defence(table):
    """Rates pooled over networks with Wilson's intervals; medians and ranges of slopes and of the poisons needed."""
    rows, keys = [], ["data", "kind", "defence"]
    scores, relearn = table[table.what == "scores"], table[(table.what == "relearn") & (table.status == "ok")]
    before = scores[(scores.defence == "none")].groupby(["data", "kind"]).slope.median()
    for (data, kind, defence), group in scores.groupby(keys, sort=False):
        done = group[group.status == "ok"]
        row = {"data": data, "attack": kind, "defence": defence, "seeds": len(done), "failed": len(group) - len(done)}
        if len(done):
            for name in ("asr", "no_trigger", "ra", "acc"):
                row |= attacks.pooled(done, name)
            ours = relearn[(relearn[keys] == [data, kind, defence]).all(axis=1)]
            poisons = ours.groupby("seed").apply(needed, include_groups=False) if len(ours) else pd.Series(dtype=float)
            most = ours["count"].max() if len(ours) else np.nan
            again = ours[ours["count"] == FEW] if len(ours) else ours
            if len(again):
                found = attacks.pooled(again, "asr")
                row |= {f"again{name.removeprefix('asr')}": value for name, value in found.items()}
            row |= {
                "n_poison": done.n_poison.median(),
                "n_clean": done.n_clean.median(),
                "slope_before": before[data, kind],
                "slope": done.slope.median(),
                "slope_relative": done.slope_relative.median(),
                "head_loss_at_0": done.head_loss.median(),
                # networks that never came back stand behind all others
                "poisons_to_relearn": poisons.fillna(np.inf).median(),
                "poisons_least": poisons.fillna(np.inf).min(),
                "poisons_most": poisons.fillna(np.inf).max(),
                "most_tried": most,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def needed(group):
    """Return the smallest number of poisons from which ASR stays at LEVEL or above; NaN: more than were tried."""
    group = group.sort_values("count")
    above = np.logical_and.accumulate((group.asr_hits / group.asr_n >= LEVEL).to_numpy()[::-1])[::-1]
    return float(group["count"].to_numpy()[np.argmax(above)]) if above.any() else np.nan


def finding(summary):
    words = []
    for row in summary.itertuples():
        if not row.seeds:
            words.append(f"{row.data}, {row.attack}, {row.defence}: failed on all {row.failed} networks.")
            continue
        words.append(
            f"{row.data}, {row.attack}, {row.defence}: ASR {row.asr:.3f} [{row.asr_low:.3f}, {row.asr_high:.3f}], ACC "
            f"{row.acc:.3f}, RA {row.ra:.3f}, slope {row.slope:.3g}, poisons to re-learn {row.poisons_to_relearn:g} "
            f"({row.poisons_least:g} to {row.poisons_most:g})."
        )
    return words


# %% Figure: re-learning, an attack a panel
def draw(table, data):
    table = table[(table.data == data) & (table.status == "ok") & (table.what == "relearn")]
    shown = [d for d in DEFENCES if d in set(table.defence)]
    tried = [attack for attack in ATTACKS if attack in set(table.kind)]
    with local():
        made, axes = figure(2, -(-len(tried) // 2), width=PAGE, aspect=0.75)
        for ax in axes.flat[len(tried) :]:
            ax.remove()
        handles = []
        for ax, attack in zip(axes.flat, tried, strict=False):
            for defence, style in group_styles(shown).items():
                group = table[(table.kind == attack) & (table.defence == defence)]
                asr = (group.asr_hits / group.asr_n).groupby(group["count"]).mean()
                look = style.line(label=defence, markersize=3)
                if defence == "never attacked":  # what all others are measured by
                    look |= {"color": INK, "linewidth": 2.0, "linestyle": "-"}
                lines = ax.plot(asr.index, asr, **look)
                handles += lines if ax is axes.flat[0] else []
            ax.set(ylim=(-0.03, 1.03), xlabel="poisons in re-training (count)", ylabel="ASR")
            ax.set_xscale("symlog", linthresh=2)
            ax.set_xlim(-0.3, max(RELEARN) * 1.2)
            ax.set_xticks(RELEARN, [str(k) for k in RELEARN])
            ax.annotate(attack, (0.98, 0.04), xycoords="axes fraction", ha="right", va="bottom")
        outside_legend(made, axes[0, 0], handles)
    return made


# %% Run, tables, figure, finding
if __name__ == "__main__":
    options = soda.arguments(QUESTION, "28", data=("mnist-colour", "cifar10-kind"))
    cells = []
    for data in options.pairs:
        tried = SEMANTIC if data.startswith("cifar10") else ATTACKS
        cells += soda.cells_of([data], tried, defence=DEFENCES)
    table = study.run(cells, measure, options.out, options.n_jobs)
    summary = by_defence(table)
    study.write_table(table, options.tables, "soda_defences_networks", digits=4)
    study.write_table(summary, options.tables, "soda_defences", digits=3)
    folder = options.out if options.small else study.HERE.parent / "docs" / "images" / "defences"
    for data in summary.data.unique():
        save(draw(table, data), folder / f"soda_relearn_{data}", formats=["png"], dpi=110)
    print(*finding(summary), sep="\n")
