"""What does a defence do to the learning curve: its slope, its end, and how few poisons bring the backdoor back?"""

# %% Question
import os
from functools import lru_cache
from pathlib import Path

import attack_study as attacks
import numpy as np
import pandas as pd
import study
import torch

import learningcurves as lc
from learningcurves.defences.anp import alpha_sweep
from learningcurves.defences.metrics import attack_scores, defence_scores

QUESTION = __doc__
REG = 1.0
BETA = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
RELEARN = (0, 1, 2, 5, 10, 20, 50)
N_CLEAN = 500  # clean samples that the defender has
DEFENCES = ("none", "finetune", "fineprune", "anp", "never attacked")
COUNTS = {"digits": 40, "mnist-small": 160, "mnist": 320, "cifar10": 250, "cifar10-ten": 450, "cifar10-full": 800}
ATTACKS = ("badnets", "blend", "sinusoid")
ITERATIONS = {
    "digits": 200,
    "mnist-small": 400,
    "mnist": 1000,
    "cifar10": 1000,
    "cifar10-ten": 2000,
    "cifar10-full": 2000,
}  # published: 2,000
ALPHAS = (0.0, 0.2, 0.6, 1.0)
SEEDS = {"cifar10-ten": 3, "cifar10-full": 3}  # networks each defence is tried on; one elsewhere


# %% Cells: an attack, a defence, a seed
def cells_of(data_sets):
    return [
        {"data": data, "seed": seed, "attack": attack, "defence": defence}
        for data in data_sets
        for seed in attacks.SIZES[data]["seeds"][: SEEDS.get(data, 1)]
        for attack in ATTACKS
        for defence in DEFENCES
    ]


@lru_cache(maxsize=2)
def attacked(data, attack, seed):
    problem = attacks.problem_of(data, attack, COUNTS[data], seed)
    module = attacks.backdoored(data, attack, COUNTS[data], seed, problem)
    # contiguous is faster for the masks of a small network
    module = module.to(attacks.device(), memory_format=torch.contiguous_format)
    rows = slice(0, min(N_CLEAN, problem.n_clean))
    return problem, module, (problem.X_clean[rows].reshape(-1, *problem.image_shape), problem.y_clean[rows])


def defended(data, attack, seed, defence):
    """Return the network after a defence, and what it knows of itself."""
    _, module, clean_data = attacked(data, attack, seed)
    if defence == "none":
        return module, {}
    if defence == "never attacked":
        return attacks.clean_network(data, seed).to(attacks.device()), {}
    if defence == "anp":
        state = Path(os.environ[attacks.FOLDER]) / f"{data}_{attack}_{COUNTS[data]}_seed={seed}.anp"
        result = lc.defend_anp(
            module, clean_data, iterations=ITERATIONS[data], seed=seed, checkpoint=state, progress=False
        )
        facts = {"threshold": result.threshold, "n_pruned": len(result.pruned), "n_units": result.units.n}
        return result.module, {**facts, "result": result}
    call = lc.defend_finetune if defence == "finetune" else lc.defend_fineprune
    result = call(module, clean_data, epochs=10, lr=0.02, seed=seed)
    return result.module, {"n_pruned": result.settings.get("n_pruned")}


def measure(cell):
    """Score the network; take slope and curve of its last layer; train it again on a few poisons."""
    data, attack, seed = cell["data"], cell["attack"], cell["seed"]
    problem, module, clean_data = attacked(data, attack, seed)
    after, facts = defended(data, attack, seed, cell["defence"])
    result = facts.pop("result", None)
    scores = attack_scores(after, problem)
    slope = lc.backdoor_slope(after, problem, reg=REG)
    row = {
        "what": "scores",
        **attacks.rates(after, problem),
        **facts,
        "slope": slope.value,
        "slope_relative": slope.relative,
    }
    if cell["defence"] not in ("none", "never attacked"):
        changes = defence_scores(attack_scores(module, problem), scores).set_index("metric")
        for name in changes.index:
            row |= {name: changes.value[name], f"{name}_low": changes.low[name], f"{name}_high": changes.high[name]}
    yield row
    curve = lc.learning_curve(after, problem, beta=list(BETA), reg=REG)
    for beta, bk, loss in zip(curve.beta, curve.bk, curve.loss_triggered, strict=True):
        yield {"what": "curve", "beta": float(beta), "bk": float(bk), "loss_triggered": float(loss)}
    counts = [k for k in RELEARN if k <= problem.n_backdoor]
    again = lc.relearn_curve(after, clean_data, problem, counts=counts, epochs=5, lr=0.02, seeds=(0,))
    for found in again.to_dict("records"):
        yield {"what": "relearn", **{k: v for k, v in found.items() if k != "seed"}, "status": "ok"}
    if result is not None:
        for found in result.oracle(problem).to_dict("records"):
            yield {"what": "oracle", **found}


def measure_alpha(cell):
    """Learn the masks anew at each alpha and look at every threshold: an oracle, as in the published plots."""
    problem, module, clean_data = attacked(cell["data"], cell["attack"], cell["seed"])
    options = {"iterations": ITERATIONS[cell["data"]] // 2, "seed": cell["seed"], "progress": False}
    yield from alpha_sweep(module, clean_data, problem, alphas=(cell["alpha"],), **options).to_dict("records")


# %% Tables
def by_defence(table):
    rows = []
    scores, relearn, curve = (table[table.what == what] for what in ("scores", "relearn", "curve"))
    for (data, attack, defence), group in scores.groupby(["data", "attack", "defence"], sort=False):
        row = {"data": data, "attack": attack, "defence": defence, "seeds": len(group)}
        for name in ("asr", "no_trigger", "ra", "acc"):
            row |= attacks.pooled(group, name)
        row |= {"slope": group.slope.median(), "slope_relative": group.slope_relative.median()}
        row |= {
            n: group[n].median()
            for n in ("d_asr", "d_acc", "d_ra", "der", "rir", "n_pruned", "n_units", "threshold")
            if n in group
        }
        ours = (relearn.data == data) & (relearn.attack == attack) & (relearn.defence == defence)
        row |= {"poisons_to_relearn": needed(relearn[ours]), "most_tried": relearn[ours]["count"].max()}
        ends = curve[(curve.data == data) & (curve.attack == attack) & (curve.defence == defence)]
        row |= {f"head_bk_at_{b:g}": ends[ends.beta == b].bk.median() for b in (0.0, 1.0)}
        rows.append({**row, "head_loss_at_0": ends[ends.beta == 0].loss_triggered.median()})
    return pd.DataFrame(rows)


def needed(group, level=0.5):
    """Return the smallest number of poisons from which ASR, in the mean of seeds, stays at `level` or above."""
    asr = (group.asr_hits / group.asr_n).groupby(group["count"]).mean()
    above = np.flip(np.logical_and.accumulate(np.flip((asr >= level).to_numpy())))
    return float(asr.index[int(np.argmax(above))]) if above.any() else np.nan


def finding(summary):
    words = []
    for row in summary.itertuples():
        back = (
            "more than were tried"
            if row.poisons_to_relearn != row.poisons_to_relearn
            else f"{row.poisons_to_relearn:.0f}"
        )
        words.append(
            f"{row.data}, {row.attack}, {row.defence}: ASR {row.asr:.3f} [{row.asr_low:.3f}, {row.asr_high:.3f}], ACC "
            f"{row.acc:.3f}, RA {row.ra:.3f}; last-layer slope {row.slope:.3g} ({row.slope_relative:.3g} of the "
            f"loss), a head refitted on clean samples alone still has BK {row.head_bk_at_0:.2f}; poisons for ASR of one half again: {back}."
        )
    return words


# %% Figures: curve before and after, and re-learning, an attack a row; ANP over threshold and alpha
def draw(table, data):
    from learningcurves.plotting.style import PAGE, figure, local, outside_legend

    table = table[table.data == data]
    names = list(table.attack.unique())
    with local():
        made, axes = figure(3, len(names), width=PAGE, aspect=0.8)
        handles = [
            draw_row(row, table[table.attack == attack], attack) for row, attack in zip(axes, names, strict=True)
        ]
        outside_legend(made, axes[0, 0], handles[0])
    return made


def draw_row(axes, table, attack):
    """Draw one attack: last-layer curve, slope, re-learning; return one line a defence."""
    from learningcurves.plotting.style import group_styles

    curve_axes, slope_axes, again_axes = axes
    styles, handles = group_styles(DEFENCES), []
    for i, defence in enumerate(DEFENCES):
        style, group = styles[defence], table[table.defence == defence]
        curve = group[group.what == "curve"].groupby("beta").loss_triggered.median()
        handles += curve_axes.plot(curve.index, curve, **style.line(label=defence))
        scores = group[group.what == "scores"]
        slope_axes.plot([i] * len(scores), -scores.slope, **style.line(linestyle="none"))
        again = group[group.what == "relearn"]
        asr = (again.asr_hits / again.asr_n).groupby(again["count"])
        again_axes.plot(asr.median().index, asr.median(), **style.line())
        again_axes.fill_between(asr.min().index, asr.min(), asr.max(), color=style.color, alpha=0.15, linewidth=0)
    curve_axes.set(xlabel="β", ylabel="triggered loss (nats)", ylim=(0, None))
    curve_axes.text(0.97, 0.93, attack, transform=curve_axes.transAxes, ha="right", va="top")
    curve_axes.set_xscale("symlog", linthresh=1e-3)
    curve_axes.set_xlim(-2e-4, 1.3)
    curve_axes.set_xticks([0, 1e-2, 1], ["0", "0.01", "1"])
    slope_axes.set(ylabel="−slope, last layer (nats)", yscale="log", xlim=(-0.5, len(DEFENCES) - 0.5))
    slope_axes.set_xticks(range(len(DEFENCES)), [d.replace(" ", "\n") for d in DEFENCES], rotation=45)
    again_axes.set(xlabel="poisons in re-training (count)", ylabel="ASR", ylim=(-0.03, 1.03))
    again_axes.set_xscale("symlog", linthresh=1)
    again_axes.set_xlim(-0.3, max(RELEARN) * 1.3)
    again_axes.set_xticks([0, 1, 10, 50], ["0", "1", "10", "50"])
    return handles


def draw_anp(table, alphas, data):
    from learningcurves.plotting.style import PAGE, figure, group_styles, local, outside_legend

    oracle = table[(table.data == data) & (table.what == "oracle")]
    with local():
        made, (axes,) = figure(2, 1, width=PAGE, aspect=0.7)
        handles = []
        for attack, style in group_styles(oracle.attack.unique()).items():
            group = oracle[oracle.attack == attack].groupby("threshold")[["acc", "asr"]].median()
            look = style.line(label=f"{attack}: ASR (oracle)", markersize=2.5)
            handles += axes[0].plot(group.index, group.asr, **look)
            axes[0].plot(group.index, group.acc, color=style.color, linestyle=":", label="clean accuracy")
        axes[0].set(xlabel="threshold (dotted: clean accuracy)", ylabel="share of test samples", ylim=(-0.03, 1.03))
        if alphas is not None:
            alphas = alphas[alphas.data == data]
            for alpha, style in group_styles(sorted(alphas.alpha.unique())).items():
                group = alphas[alphas.alpha == alpha].groupby("threshold")[["acc", "asr"]].median()
                handles += axes[1].plot(1 - group.acc, group.asr, **style.line(label=f"α = {alpha:g}", markersize=2.5))
            axes[1].set(xlabel=f"clean error, {ATTACKS[0]}, over thresholds", ylabel="attack success rate (oracle)")
            axes[1].set(ylim=(-0.03, 1.03))
        outside_legend(made, axes[0], handles)
    return made


# %% Run, tables, figures, finding
if __name__ == "__main__":
    options = attacks.arguments(QUESTION, "12")
    table = attacks.finished(study.run(cells_of(options.data), measure, options.out, options.n_jobs))
    summary = by_defence(table)
    study.write_table(table, options.tables, "defences_networks", digits=4)
    study.write_table(summary, options.tables, "defences", digits=4)
    cells = [
        {"data": d, "attack": ATTACKS[0], "seed": attacks.SIZES[d]["seeds"][0], "alpha": a}
        for d in options.data
        for a in ALPHAS
    ]
    alphas = study.run(cells, measure_alpha, options.out / "alpha", options.n_jobs)
    alphas = alphas[alphas.status == "ok"] if len(alphas) else None
    if alphas is not None:
        study.write_table(alphas, options.tables, "defences_alpha", digits=4)
    for data in summary.data.unique():
        attacks.save_figure(draw(table, data), options, f"defences_{data}")
        attacks.save_figure(draw_anp(table, alphas, data), options, f"anp_{data}")
    print(*finding(summary), sep="\n")
