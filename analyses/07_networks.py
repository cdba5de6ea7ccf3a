"""Do slope and backdoor accuracy of a network fall with weight decay while clean accuracy stays, as convex learners do?"""

# %% Question
from functools import partial

import network_study as nets
import numpy as np
import pandas as pd
import study
from scipy import stats

import learningcurves as lc

QUESTION = __doc__


# %% Cells: a network, lambda (weight decay = lambda / N), poisoned fraction, seed; trained at every beta
def head_slopes(module, problem, reg):
    """Slope of the last layer: with the training's own lambda on raw features, and with lambda = 1 on standard ones."""
    own = lc.backdoor_slope(module, problem, reg=reg, standardize=False)
    fixed = lc.backdoor_slope(module, problem, reg=1.0)
    return {"slope": own.value, "slope_standard": fixed.value, "head_residual": own.head_residual}


def measure(cell):
    problem = nets.problem_of(cell["data"], cell["fraction"], cell["seed"])
    look = partial(head_slopes, problem=problem, reg=cell["reg"])
    frames = [
        nets.trained_curve(cell, [0.0], measure=look).to_frame(),
        nets.trained_curve(cell, list(nets.BETA[cell["data"]])).to_frame(),
    ]
    columns = ["beta", "epoch", "loss_triggered", "loss_clean", "bk", "accuracy_clean", "status"]
    extra = ["slope", "slope_standard", "head_residual"]
    rows = frames[0][columns + extra].to_dict("records") + frames[1][columns].to_dict("records")
    return [{"n": problem.n_clean + problem.n_backdoor, **row} for row in rows]


# %% What lambda does, at each fraction
def by_reg(table):
    """Means and 95 % t-intervals over seeds: slopes of the clean network by epoch, and what training with beta brings."""
    rows = []
    for (data, p, reg), group in table.groupby(["data", "fraction", "reg"]):
        last = group[group.epoch == group.epoch.max()]
        clean = group[group.beta == 0]
        row = {"data": data, "fraction": p, "reg": reg, "seeds": group.seed.nunique(), "n": int(group.n.iloc[0])}
        row |= {f"slope_epoch_{e}": clean[clean.epoch == e].slope.mean() for e in sorted(group.epoch.unique())}
        row |= nets.interval("slope", last[last.beta == 0].slope)
        row |= {"slope_standard": last[last.beta == 0].slope_standard.mean()}
        row |= {"head_residual": last[last.beta == 0].head_residual.mean()}
        for beta, part in last.groupby("beta"):
            row |= nets.interval(f"bk_beta_{beta:g}", part.bk) | nets.interval(
                f"clean_beta_{beta:g}", part.accuracy_clean
            )
        rows.append(row)
    return pd.DataFrame(rows)


def changes(table):
    """Change from the smallest lambda to each larger one within a seed: means and 95 % t-intervals over seeds."""
    last = table[table.epoch == table.epoch.max()]
    rows = []
    for (data, p), group in last.groupby(["data", "fraction"]):
        regs = sorted(group.reg.unique())
        for reg in regs[1:]:
            row = {"data": data, "fraction": p, "reg_from": regs[0], "reg_to": reg}
            for beta, part in group.groupby("beta"):
                wide = part.pivot(index="seed", columns="reg")
                if beta == 0:
                    factor = np.log10(wide["slope"][regs[0]] / wide["slope"][reg])
                    row |= {"seeds": int(factor.notna().sum())} | nets.interval("log10_slope_ratio", factor)
                for name in ("bk", "accuracy_clean"):
                    row |= nets.interval(f"{name}_beta_{beta:g}", wide[name][reg] - wide[name][regs[0]])
            rows.append(row)
    return pd.DataFrame(rows)


def finding(change):
    """Say for each data set and fraction what the largest lambda changes against the smallest."""
    words = []
    for (data, p), group in change.groupby(["data", "fraction"]):
        row = group.iloc[-1]
        names = [c for c in group if c.startswith("bk_beta_") and not c.endswith(("low", "high")) and row[c] == row[c]]
        betas = sorted(float(c.removeprefix("bk_beta_")) for c in names)[1:]
        log = {end: row[f"log10_slope_ratio{end}"] for end in ("", "_low", "_high")}
        factor = f"{10 ** log['']:.3g} times flatter"
        factor += f" ({10 ** log['_low']:.3g} to {10 ** log['_high']:.3g})" if log["_low"] == log["_low"] else ""
        parts = [f"lambda {row.reg_from:g} -> {row.reg_to:g} makes the slope of the last layer {factor}"]
        parts += [f"BK at beta = {b:g} changes by {_change(row, f'bk_beta_{b:g}')}" for b in betas]
        parts += [f"clean accuracy at beta = 1 by {_change(row, 'accuracy_clean_beta_1')}"]
        seeds = "one seed" if row.seeds == 1 else f"{row.seeds} seeds, 95 % interval"
        words.append(f"{data}, p = {p:g} ({seeds}): " + "; ".join(parts) + ".")
    return words


def ranks(table):
    """Say how well the slope ranks BK over lambda, fractions and seeds, at every beta that was trained."""
    words, last = [], table[table.epoch == table.epoch.max()]
    for data, group in last.groupby("data"):
        cells = group.pivot(index=["fraction", "reg", "seed"], columns="beta", values="bk")
        slope = group[group.beta == 0].set_index(["fraction", "reg", "seed"]).slope
        found = [
            f"{stats.spearmanr(-slope.loc[cells.index], cells[beta]).statistic:+.2f} at beta = {beta:g}"
            for beta in cells.columns[1:]
            if cells[beta].notna().all()
        ]
        words.append(f"{data}: rank correlation of -slope and BK over {len(cells)} networks " + ", ".join(found) + ".")
    return words


def _change(row, name):
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:+.3f}" + (f" ({low:+.3f} to {high:+.3f})" if low == low else "")


# %% Figure: curves, slopes, accuracies
def draw(table, data):
    from learningcurves.plotting.style import PAGE, PALETTE, figure, local, outside_legend

    styles = nets.reg_styles(table)
    table = table[table.data == data]
    last, fractions, regs = table.epoch.max(), sorted(table.fraction.unique()), sorted(table.reg.unique())
    made, axes = figure(3, len(fractions), width=PAGE, aspect=0.85)
    with local():
        for row, p in zip(axes, fractions, strict=True):
            part = table[table.fraction == p]
            for reg in regs:
                style = styles[reg]
                one = part[part.reg == reg]
                look = {"color": style.color, "marker": style.marker, "label": f"λ = {reg:g}"}
                nets.band(row[0], one[one.epoch == last], "beta", "loss_triggered", **look)
                nets.band(row[0], one[one.epoch == last], "beta", "loss_clean", color=style.color, linestyle=":")
                nets.band(row[1], one[one.beta == 0].assign(slope=-one.slope), "epoch", "slope", **look)
            ends = part[part.epoch == last]
            for beta, marker in zip(sorted(ends.beta.unique())[::-1], ("X", "P", "v"), strict=False):
                look = {"marker": marker, "linestyle": ":" if beta == 0 else "-" if beta == 1 else "--"}
                name = f"BK, β = {beta:g}"
                nets.band(row[2], ends[ends.beta == beta], "reg", "bk", color=PALETTE["brown"], label=name, **look)
            clean = {"color": PALETTE["slate"], "marker": "D", "label": "clean accuracy, β = 1"}
            nets.band(row[2], ends[ends.beta == 1], "reg", "accuracy_clean", **clean)
            row[0].set(xlabel="β", ylabel="test loss (nats)", yscale="log", title=f"p = {p:g}")
            row[1].set(xlabel="epoch", ylabel="−slope of last layer", xscale="log", yscale="log", title=f"p = {p:g}")
            row[2].set(xlabel="λ", ylabel="share of test samples", xscale="log", ylim=(-0.03, 1.03), title=f"p = {p:g}")
        handles = [h for ax in (axes[0, 1], axes[0, 2]) for h in ax.get_legend_handles_labels()[0]]
        outside_legend(made, axes, handles)
    return made


# %% Run, tables, figures, finding
if __name__ == "__main__":
    options = nets.arguments(QUESTION, "07")
    table = study.run(nets.cells_of(options.pairs), measure, options.out, options.n_jobs)
    for data in table.data.unique():
        study.write_table(table[table.data == data], options.tables, f"networks_{data}", digits=4)
        nets.save_figure(draw(table, data), options, f"networks_{data}")
    study.write_table(by_reg(table), options.tables, "networks_by_reg", digits=4)
    change = changes(table)
    study.write_table(change, options.tables, "networks_changes", digits=4)
    words = finding(change) + ranks(table)
    nets.write_page(options, "07", words)
    print(*words, sep="\n")
