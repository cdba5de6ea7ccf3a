"""Does the last layer's backdoor slope predict the attack success of the trained networks?"""

# %% Question
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
import semantic_study as semantic
import study
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

import learningcurves as lc
from learningcurves.networks.semantic_head import head_losses

QUESTION = __doc__
N_HEAD = {"cpu": 1000, "small": 120, "thesis": 4096}  # samples of the last layer's problem
N_TEST = {"cpu": 300, "small": 40, "thesis": 2000}
REG = {"cpu": 30.0, "small": 10.0, "thesis": 100.0}
REGS = (3.0, 30.0, 300.0)
FRACTIONS = (0.02, 0.05, 0.1)


@lru_cache(maxsize=1)
def network_of(key):
    cell = dict(key)
    return semantic.trained({k: v for k, v in cell.items() if k != "beta"}, **semantic.beta_of(cell))


def parts_of(run, cell, fraction=0.1):
    """The first samples of the run's own problem: frozen features of so many keep a solve at seconds."""
    n, m, t = N_HEAD[cell["size"]], round(fraction * N_HEAD[cell["size"]]), N_TEST[cell["size"]]
    p = run.problem
    sizes = {"clean": n - m, "backdoor": m, "test": t, "triggered": t}
    return {name: (X[: sizes[name]], y[: sizes[name]]) for name, (X, y) in p.parts.items()}


def head(run, cell, recipe, reg, fraction=0.1):
    """Slope of the target's triggered loss at beta = 0, and what it was taken at."""
    slope = lc.backdoor_slope(run.module, parts_of(run, cell, fraction), reg=reg, **head_losses(recipe, run.problem))
    return {
        "slope": slope.value,
        "loss": slope.loss,
        "slope_status": slope.status.name,
        "smallest_eigenvalue": slope.smallest_eigenvalue,
        "head_residual": slope.head_residual,
    }


# %% Part 1: one row a trained network
def measure_link(cell):
    run = network_of(tuple(sorted(cell.items())))
    recipe, reg = semantic.recipe_of(cell), REG[cell["size"]]
    right = replace(recipe, reduction="mean_log")
    own = head(run, cell, right, reg)
    end = lc.learning_curve(
        run.module, parts_of(run, cell), np.array([0.0, 1.0]), reg=reg, **head_losses(right, run.problem)
    )
    plain = head(run, cell, replace(recipe, constraints=None), reg)
    tail = run.history.tail(semantic.SIZES[cell["size"]]["last"])
    scores = {name: float(tail[name].mean()) for name in ("asr", "auc_attack", "loss_triggered", "ba_clean")}
    own |= {"loss_head": end.loss_triggered[-1], "asr_head": end.bk[-1]}
    return [{"reg": reg, **own, **{f"{k}_plain": plain[k] for k in ("slope", "loss")}, **scores}]


# %% Part 2: one network's last layer over lambda, fraction, rules, weight
def network_cell(options):
    return semantic.cell_of("none", seed=options.seeds[0], size=options.size)


def grid_cells(options):
    base = {**network_cell(options), "beta": 0.0}
    models = [("none", 0.0), *((rules, 0.2) for rules in semantic.RULES), ("base", 1.0)]
    models = [model for model in models if model[0] in options.rules]
    full = [(m, reg, 0.1) for m in models for reg in REGS]
    shares = [(model, REG[options.size], p) for model in models[:2] for p in FRACTIONS[:-1]]
    return [
        {**base, "head_rules": rules, "head_weight": weight, "reg": reg, "fraction": fraction}
        for (rules, weight), reg, fraction in (*full, *shares)
    ]


def measure_grid(cell):
    names = ("head_rules", "head_weight", "reg", "fraction")
    network = {k: v for k, v in cell.items() if k not in names}
    run = network_of(tuple(sorted(network.items())))
    rules = semantic.cell_of(cell["head_rules"], sl_weight=cell["head_weight"], seed=cell["seed"], size=cell["size"])
    recipe = semantic.recipe_of(rules)
    row = head(run, cell, recipe, cell["reg"], cell["fraction"])
    curve = lc.learning_curve(
        run.module, parts_of(run, cell, cell["fraction"]), np.array([0.0, 0.1, 1.0]), reg=cell["reg"],
        **head_losses(recipe, run.problem),
    )  # fmt: skip
    deviation = lc.parameter_deviation(curve)
    for i, beta in ((1, "0.1"), (2, "1")):
        row |= {f"loss_{beta}": curve.loss_triggered[i], f"asr_{beta}": curve.bk[i]}
    return [{**row, "asr_0": curve.bk[0], "nu": deviation.nu[-1], "rho_relative": deviation.rho_relative[-1]}]


# %% Cells of part 1: the networks of the other analyses, as far as they are trained
def link_cells(options):
    cells = []
    for seed in options.seeds:
        cells.append(semantic.cell_of("none", seed=seed, size=options.size))
        for rules in (r for r in options.rules if r != "none"):
            for reduction in options.reductions:
                for weight in (0.2, 0.1, 0.5, 1.0, 2.0):
                    cells.append(semantic.cell_of(rules, reduction, weight, seed=seed, size=options.size))
    if options.size == "small":
        return cells[:2]
    return [cell for cell in cells if semantic.is_trained(cell)]


MODEL = ["rules", "reduction", "sl_weight"]


def correlations(link):
    """Rank correlation of the last layer with what the networks do; the bootstrap draws whole models, seeds and all."""
    from learningcurves.analysis.relate import rank_correlation

    named = link.rules.isin(["base", "target_focused"])
    parts = {
        "all": link,
        "right loss or none": link[link.reduction == "mean_log"],
        "rules that name the target": link[named],
    }
    rows = []
    for name, part in parts.items():
        models = part.groupby(MODEL).ngroups
        for x in ("slope", "slope_plain", "asr_head"):
            for y in ("asr", "auc_attack", "loss_triggered"):
                if models >= 5:
                    found = rank_correlation(part, x, y, repeat=MODEL)
                    row = {"rho": found.value, "low": found.low, "high": found.high, "n": found.n, "models": models}
                    rows.append({"networks": name, "x": x, "y": y, **row})
    return pd.DataFrame(rows, columns=["networks", "x", "y", "rho", "low", "high", "n", "models"])


# %% Figures: slope and the last layer's own ASR against that of the network; slope over lambda, loss over beta
LOOK = {
    "none": ("#e79c00", "s"), "base": ("#3f90da", "o"), "targetless": ("#832db6", "D"), "target_focused": ("#bd1f01", "^"),
}  # fmt: skip
HEADS = {0.0: ":", 0.2: "-", 1.0: "--"}  # weights of the rules in the last layer


def draw(link):
    from learningcurves.plotting.style import PAGE, figure

    made, axes = figure(2, 1, width=PAGE, aspect=0.62)
    for ax, x in ((axes[0, 0], -link.slope), (axes[0, 1], 100 * link.asr_head)):
        for (rules, reduction), group in link.groupby(["rules", "reduction"], sort=False):
            color, marker = LOOK[rules]
            right = reduction == "mean_log"
            ax.scatter(
                x[group.index], 100 * group.asr, s=10 + 12 * group.sl_weight, marker=marker, edgecolor=color,
                facecolor=color if right else "none", linewidth=0.9, label=rules.replace("_", "-") if right else None,
            )  # fmt: skip
        ax.set(ylabel="attack success rate (%)", ylim=(-3, 103))
    _log_axis(axes[0, 0].xaxis)
    axes[0, 0].set_xlabel("−slope of the last layer at β = 0 (nats)")
    axes[0, 1].set(xlabel="attack success rate of the last layer at β = 1 (%)", xlim=(-3, 103))
    handles = axes[0, 0].get_legend_handles_labels()
    made.legend(*handles, loc="outside upper center", ncols=4, fontsize=6.5, title_fontsize=6.5,
                title="rules; larger: more weight; open: trained with another arithmetic than the right one")  # fmt: skip
    return made


def draw_head(grid, reg):
    from learningcurves.plotting.style import PAGE, figure

    made, axes = figure(2, 1, width=PAGE, aspect=0.66)
    full = grid[np.isclose(grid.fraction, 0.1) & (grid.status == "ok")]
    for (rules, weight), group in full.groupby(["head_rules", "head_weight"], sort=False):
        color, marker = LOOK[rules]
        look = {
            "color": color,
            "marker": marker,
            "linestyle": HEADS[weight],
            "markersize": 4,
            "markerfacecolor": "none",
        }
        group = group.sort_values("reg")
        name = f"{rules.replace('_', '-')}, weight {weight:g}" if rules != "none" else "none"
        axes[0, 0].plot(group.reg, -group.slope, label=name, **look)
        at = group[np.isclose(group.reg, reg)]
        if len(at):
            axes[0, 1].plot([0, 0.1, 1], at[["loss", "loss_0.1", "loss_1"]].to_numpy()[0], **look)
    axes[0, 0].set(xlabel="λ of the last layer", ylabel="−slope at β = 0 (nats)", xscale="log")
    _log_axis(axes[0, 0].yaxis)
    axes[0, 1].set(xlabel=f"β (λ = {reg:g})", ylabel="triggered loss (nats)")
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=6.5,
                title="rules and weight in the last layer", title_fontsize=6.5)  # fmt: skip
    return made


def _log_axis(axis):
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


# %% Run, tables, figure
if __name__ == "__main__":
    options = semantic.arguments(QUESTION, "33")
    link = study.run(link_cells(options), measure_link, options.out / "link", options.n_jobs)
    study.write_table(link, options.tables, "semantic_link", digits=5)
    found = correlations(link)
    study.write_table(found, options.tables, "semantic_link_correlations", digits=3)
    chosen = grid_cells(options)
    if options.trained and not semantic.is_trained(network_cell(options), beta=0.0):
        chosen = []  # the network without backdoor samples is not there yet
    grid = study.run(chosen, measure_grid, options.out / "grid", options.n_jobs)
    if len(grid):
        name = "semantic_head_drawn" if options.size == "small" else "semantic_head"
        study.write_table(grid, options.tables, name, digits=5)
        semantic.save_figure(draw_head(grid, REG[options.size]), options, name)
    semantic.save_figure(draw(link), options, "semantic_link")
    print(found.to_string(index=False))
    print(grid.to_string(index=False))
