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
    """Secants over the slope, medians and range over seeds, lambda and fractions."""
    table = table.assign(head=table.head_secant / table.slope, network=table.network_secant / table.slope)
    summary = table.groupby(["data", "beta"])[["head", "network"]].agg(["median", "min", "max", "count"])
    summary.columns = ["_".join(c) for c in summary.columns]
    return summary.reset_index()


def finding(summary):
    words = []
    for data, group in summary.groupby("data"):
        near, far = group.iloc[0], group.iloc[-1]
        words.append(
            f"{data}: the secant of the refitted head is {near.head_median:.4f} of the slope at beta = {near.beta:g} and "
            f"{far.head_median:.2g} at beta = {far.beta:g}; that of the retrained network is {far.network_median:.2g} there."
        )
    return words


# %% Figure
def draw(table):
    from learningcurves.plotting.style import PAGE, figure

    sets = list(table.data.unique())
    made, axes = figure(len(sets), 1, width=PAGE if len(sets) > 1 else 0.6 * PAGE)
    for ax, data in zip(axes[0], sets, strict=True):
        part = table[table.data == data]
        part = part.assign(head=part.head_secant / part.slope, network=part.network_secant / part.slope)
        for name, color, marker in (("head", "C0", "o"), ("network", "C3", "s")):
            part = part.assign(value=part[name])
            known = part[part.value.notna()]
            ax.plot(known.beta, known.value, marker, color=color, alpha=0.35, markersize=3, linestyle="none")
            middle = known.groupby("beta").value.median()
            label = "head refitted" if name == "head" else "network trained anew"
            ax.plot(middle.index, middle, "-", color=color, marker=marker, label=label)
        ax.axhline(1.0, color="0.5", linewidth=0.8)
        ax.set(xscale="log", yscale="symlog", xlabel="β", ylabel="secant / slope of the last layer")
        ax.set_yscale("symlog", linthresh=1e-3)
        ax.annotate(data, (0.98, 0.95), xycoords="axes fraction", ha="right", va="top")
        ax.legend(fontsize="x-small", loc="lower left")
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
