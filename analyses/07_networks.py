"""Do slope and backdoor accuracy of a network fall with weight decay while clean accuracy stays, as convex learners do?"""

# %% Question
from functools import partial

import network_study as nets
import pandas as pd
import study

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
    """Medians over seeds: slopes of the clean network by epoch, and what training at beta = 1 brings."""
    rows = []
    for (data, p, reg), group in table.groupby(["data", "fraction", "reg"]):
        last = group.epoch.max()
        clean, full = (group[(group.beta == b) & (group.epoch == last)] for b in (0.0, 1.0))
        row = {"data": data, "fraction": p, "reg": reg, "seeds": group.seed.nunique(), "n": int(group.n.iloc[0])}
        for epoch in sorted(group.epoch.unique()):
            at = group[(group.beta == 0) & (group.epoch == epoch)]
            row[f"slope_epoch_{epoch}"] = at.slope.median()
        row |= {
            "slope_standard": clean.slope_standard.median(),
            "head_residual": clean.head_residual.median(),
            "bk_floor": clean.bk.median(),
            "bk": full.bk.median(),
            "accuracy_clean_0": clean.accuracy_clean.median(),
            "accuracy_clean": full.accuracy_clean.median(),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def finding(summary):
    """One sentence a data set and fraction, from the smallest to the largest lambda."""
    words = []
    for (data, p), group in summary.groupby(["data", "fraction"]):
        low, high = group.iloc[0], group.iloc[-1]
        epoch = [c for c in group.columns if c.startswith("slope_epoch_") and group[c].notna().all()][-1]
        words.append(
            f"{data}, p = {p:g}, lambda {low.reg:g} -> {high.reg:g}: last-layer slope {low[epoch]:.3g} -> {high[epoch]:.3g}, "
            f"BK at beta = 1 {low.bk:.2f} -> {high.bk:.2f}, clean accuracy {low.accuracy_clean:.2f} -> "
            f"{high.accuracy_clean:.2f}."
        )
        kept = group[group.accuracy_clean >= group.accuracy_clean.max() - 0.06]
        if 1 < len(kept) < len(group):
            low, high = kept.iloc[0], kept.iloc[-1]
            words[-1] += (
                f" Where clean accuracy stays within 0.06 of the best (lambda {low.reg:g} -> {high.reg:g}) the slope goes "
                f"{low[epoch]:.3g} -> {high[epoch]:.3g} and BK {low.bk:.2f} -> {high.bk:.2f}."
            )
    return words


# %% Figure: curves, slopes, accuracies
def draw(table, data):
    from learningcurves.plotting.style import PAGE, figure, group_styles

    table = table[table.data == data]
    last, fractions = table.epoch.max(), sorted(table.fraction.unique())
    regs = sorted(table.reg.unique())
    styles = group_styles([f"λ = {r:g}" for r in regs])
    made, axes = figure(3, len(fractions), width=PAGE)
    for row, p in zip(axes, fractions, strict=True):
        part = table[table.fraction == p]
        for reg, style in zip(regs, styles.values(), strict=True):
            end = (
                part[(part.reg == reg) & (part.epoch == last)]
                .groupby("beta")[["loss_triggered", "loss_clean"]]
                .median()
            )
            row[0].plot(end.index, end.loss_triggered, color=style.color, marker=style.marker, label=f"λ = {reg:g}")
            row[0].plot(end.index, end.loss_clean, color=style.color, linestyle=":")
            slopes = part[(part.reg == reg) & (part.beta == 0)].groupby("epoch").slope.median()
            row[1].plot(slopes.index, -slopes, color=style.color, marker=style.marker)
        ends = part[part.epoch == last].groupby(["reg", "beta"])[["bk", "accuracy_clean"]].median().reset_index()
        full, none = ends[ends.beta == 1], ends[ends.beta == 0]
        row[2].plot(full.reg, full.bk, "-o", color="C3", label="BK, β = 1")
        row[2].plot(none.reg, none.bk, ":", color="C3", label="BK, β = 0")
        row[2].plot(full.reg, full.accuracy_clean, "--s", color="C0", label="clean accuracy, β = 1")
        row[0].set(xlabel="β", ylabel=f"test loss (nats), p = {p:g}")
        row[1].set(xlabel="epoch", ylabel="−slope of the last layer", xscale="log", yscale="log")
        row[2].set(xlabel="λ", ylabel="share of test samples", xscale="log", ylim=(-0.02, 1.02))
    axes[0, 0].legend(fontsize="x-small")
    axes[0, 2].legend(fontsize="x-small")
    return made


# %% Run, tables, figures, finding
if __name__ == "__main__":
    options = nets.arguments(QUESTION, "07")
    table = study.run(nets.cells_of(options.pairs), measure, options.out, options.n_jobs)
    summaries = []
    for data in table.data.unique():
        study.write_table(table[table.data == data], options.tables, f"networks_{data}", digits=4)
        summaries.append(by_reg(table[table.data == data]))
        nets.save_figure(draw(table, data), options, f"networks_{data}")
    summary = pd.concat(summaries, ignore_index=True)
    study.write_table(summary, options.tables, "networks_by_reg", digits=3)
    words = finding(summary)
    nets.write_page(options, "07", words)
    print(*words, sep="\n")
