"""How far is the slope of the last layer from refitting that layer, and from training the whole network anew?"""

# %% Question
import network_study as nets
import numpy as np
import study

import learningcurves as lc

QUESTION = __doc__
STEPS = (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0)


# %% Cells: the networks of 07; secant of the triggered loss from 0 to beta, of the refitted head and of the retrained net
def measure(cell):
    problem = nets.problem_of(cell["data"], cell["fraction"], cell["seed"])
    module = nets.clean_network(cell)
    options = {"reg": cell["reg"], "standardize": False}
    slope = lc.backdoor_slope(module, problem, **options)
    head = lc.learning_curve(module, problem, [0.0, *STEPS], **options)
    whole = nets.trained_curve(cell, [0.0, *nets.BETA[cell["data"]]])
    losses = whole.loss_triggered[:, 0, -1]
    trained = dict(zip(whole.beta.tolist(), losses.tolist(), strict=True))
    return [
        {
            "beta": beta,
            "slope": slope.value,
            "slope_bound": slope.error_bound,
            "head_residual": slope.head_residual,
            "head_secant": (head.loss_triggered[i] - head.loss_triggered[0]) / beta,
            "head_loss": head.loss_triggered[i],
            "head_loss_0": head.loss_triggered[0],
            "head_bk": head.bk[i],
            "network_secant": (trained[beta] - trained[0.0]) / beta if beta in trained else np.nan,
            "network_loss": trained.get(beta, np.nan),
            "network_loss_0": trained[0.0],
        }
        for i, beta in enumerate(STEPS, 1)
    ]


def ratios(table):
    """Secants over the slope at each lambda: median and range over seeds and fractions."""
    table = table.assign(head=table.head_secant / table.slope, network=table.network_secant / table.slope)
    summary = table.groupby(["data", "reg", "beta"])[["head", "network"]].agg(["median", "min", "max", "count"])
    summary.columns = ["_".join(c) for c in summary.columns]
    return summary.reset_index()


def finding(summary):
    """Say for each data set how far the secants are from the slope, near 0 and at beta = 1."""
    words = []
    for data, group in summary.groupby("data"):
        near, far = group[group.beta == group.beta.min()], group[group.beta == group.beta.max()]
        worst = 1.0 - near.head_min.min()
        words.append(
            f"{data}: at beta = {near.beta.iloc[0]:g} the secant of the refitted head is within {100 * worst:.2g} % of the "
            "slope in every case; at beta = 1 it is "
            + ", ".join(f"{r.head_median:.2g} of it at lambda = {r.reg:g}" for r in far.itertuples())
            + ". That of the network trained anew is "
            + ", ".join(f"{r.network_median:.2g} at lambda = {r.reg:g}" for r in far.itertuples())
            + f" (range over all {int(far.network_count.sum())}: {far.network_min.min():.2g} to {far.network_max.max():.2g})."
        )
        middle = group[(group.network_count > 0) & (group.beta < 1)]
        if len(middle):
            words[-1] += f" At beta = {middle.beta.iloc[0]:g}: " + ", ".join(
                f"head {r.head_median:.2g}, network {r.network_median:.2g} at lambda = {r.reg:g}"
                for r in middle[middle.beta == middle.beta.iloc[0]].itertuples()
            )
            words[-1] += "."
    return words


# %% Figure
def draw(table):
    from learningcurves.plotting.style import PAGE, figure, local, outside_legend

    sets = list(table.data.unique())
    table = table.assign(head=table.head_secant / table.slope, network=table.network_secant / table.slope)
    regs = sorted(table.reg.unique())
    styles = nets.reg_styles(table)
    made, axes = figure(2, len(sets), width=PAGE, aspect=0.6)
    with local():
        handles = {}
        for row, data in zip(axes, sets, strict=True):
            part = table[table.data == data]
            for ax, name, label in zip(
                row, ("head", "network"), ("head refitted", "network trained anew"), strict=True
            ):
                for reg in sorted(part.reg.unique()):
                    known, style = part[(part.reg == reg) & part[name].notna()], styles[reg]
                    look = {"color": style.color, "marker": style.marker, "label": f"λ = {reg:g}"}
                    handles[reg] = nets.band(ax, known, "beta", name, **look)
                ax.axhline(1.0, color="0.5", linewidth=0.8)
                ax.set(xscale="log", yscale="log", xlim=(7e-5, 1.4), ylim=(0.007, 10), title=f"{data}: {label}")
                ax.set(xlabel="β", ylabel="secant / slope of the last layer")
        outside_legend(made, axes, [handles[reg] for reg in regs])
    return made


# %% Run, tables, figure, finding
if __name__ == "__main__":
    options = nets.arguments(QUESTION, "08")
    table = study.run(nets.ready_cells(options), measure, options.out, options.n_jobs)
    study.write_table(table, options.tables, "network_secants")
    summary = ratios(table)
    study.write_table(summary, options.tables, "network_secant_ratios", digits=4)
    nets.save_figure(draw(table), options, "secants")
    words = finding(summary)
    nets.write_page(options, "08", words)
    print(*words, sep="\n")
