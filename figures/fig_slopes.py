"""Does the slope say how well the backdoor works, which measure says it best, and what do the published shortcuts do?"""

# %% Question and tables
import draw
import numpy as np

from learningcurves.plotting import SlopeScatterDisplay, figure
from learningcurves.plotting.style import INK, PAGE, group_styles, local

given = draw.options(__doc__).parse_args()


# %% Slope against BK and clean accuracy: every run a point
def scatter(kind):
    table = draw.table(given, f"slopes_{kind}")
    if table is None:
        return
    part = draw.named(table[(table.pair == table.pair.iloc[0]) & (table.trigger == table.trigger.iloc[0])])
    part = part[part.slope < 0]  # a rare slope of the other sign would force another axis on all
    part = part[["model", "C", "slope", "bk", "accuracy_clean"]].assign(reg=1 / part.C)
    display = SlopeScatterDisplay.from_frame(part, group="model", color="reg", width=PAGE)
    draw.save(display, given, f"slope_scatter_{kind}")


# %% Rank correlations, a dot each with its interval
def dots(groups, name, order, xlabel, label):
    """Draw a panel a question: rows of `order`, one mark a pair."""
    with local():
        fig, axes = figure(len(groups), 1, PAGE, aspect=0.95 if len(groups) > 2 else 0.62, sharey=True)
        for ax, (title, part) in zip(axes[0], groups.items(), strict=True):
            pairs = list(dict.fromkeys(part.pair))
            styles = group_styles(pairs)
            for k, pair in enumerate(pairs):
                rows = part[part.pair == pair].set_index("name").reindex(order)
                y = np.arange(len(order)) + 0.22 * (k - (len(pairs) - 1) / 2)
                ax.hlines(y, rows.low, rows.high, color=styles[pair].color, linewidth=1)
                ax.plot(rows.mid, y, linestyle="", marker=styles[pair].marker, color=styles[pair].color, label=pair)
            ax.axvline(0, color="#888888", linewidth=0.6)
            ax.set_xlim(-1.05, 1.05)
            ax.set_xticks([-1, -0.5, 0, 0.5, 1])
            ax.set_yticks(range(len(order)), [label.get(o, o) for o in order])
            ax.set_title(title, loc="left")
            ax.set_xlabel(xlabel)
        axes[0, 0].invert_yaxis()
        handles, names = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper center", ncols=len(names))
    draw.save(fig, given, name)


WORDS = {
    "minus_slope": "−slope, θ", "per_unit_weight": "−λ × slope", "relative": "−slope / L(0)", "area": "area",
    "half_beta": "β½", "breakpoint": "breakpoint",
}  # fmt: skip
SHORT = {
    "exact": "right slope", "hessian_of_backdoor": "H of backdoor samples", "reg_per_sample": "λw per backdoor sample",
    "outer_times_C": "times C", "mean_over_backdoor": "mean, not sum", "bits": "bits and nats",
    "inverse_by_determinant": "inverse by determinant", "no_direct_term": "SVM: no direct term",
    "flipped_correction": "SVM: flipped correction", "all": "all of them",
}  # fmt: skip


def relations(kind):
    table = draw.table(given, f"relations_{kind}")
    if table is None:
        return
    part = table[table.target == "bk"].rename(columns={"predictor": "name", "correlation": "mid"})
    groups = {q: g for q, g in part.groupby("question", sort=False)}
    dots(groups, f"predictors_{kind}", list(WORDS), "rank correlation with BK", WORDS)


def shortcuts(kind):
    table = draw.table(given, f"shortcuts_{kind}")
    if table is None:
        return
    groups = {}
    for column, title in (("inside", "at fixed learner and λ"), ("pooled", "pooled")):
        names = {"shortcut": "name", column: "mid", f"{column}_low": "low", f"{column}_high": "high"}
        groups[title] = table[["pair", *names]].rename(columns=names)
    dots(groups, f"shortcuts_{kind}", list(SHORT), "rank correlation of −slope with BK", SHORT)


# %% The counter-example: an invisible trigger with a high slope
def invisible(kind):
    table = draw.table(given, f"slopes_{kind}")
    if table is None or not (table.trigger == "invisible-10").any():
        return
    first = table.trigger.iloc[0]
    part = table[(table.learner != "rbf_svm") & table.trigger.isin(["invisible-10", first]) & (table.slope < 0)]
    styles = group_styles([first, "invisible-10"])
    with local():
        fig, axes = figure(2, 1, PAGE * 0.85, aspect=0.8, sharex=True)
        for ax, (column, words) in zip(axes[0], (("bk", "backdoor"), ("accuracy_clean", "clean")), strict=True):
            for trigger, rows in part.groupby("trigger", sort=False):
                look = {"s": 9, "color": styles[trigger].color, "marker": styles[trigger].marker}
                ax.scatter(-rows.slope, rows[column], linewidth=0, alpha=0.7, label=in_words(trigger), **look)
            ax.axvline(np.tan(0.9 * np.pi / 2), color=INK, linewidth=0.6, linestyle=(0, (1, 2)), label="θ = 0.9")
            ax.set_xscale("log")  # θ would press all steep slopes against its end
            ax.set_ylabel(f"{words} accuracy")
        fig.supxlabel("−dL/dβ at β = 0 (loss per unit of β)", fontsize=8)
        handles, names = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper center", ncols=len(names))
    draw.save(fig, given, f"invisible_{kind}")


def in_words(trigger):
    name, size = trigger.split("-")
    return f"{name}, {size} px" if name == "patch" else f"{name}, {size}/255"


for kind in given.data:
    scatter(kind)
    relations(kind)
    shortcuts(kind)
    invisible(kind)

    # %% Finding
    found = draw.table(given, f"relations_{kind}")
    if found is not None:
        slope = found[(found.target == "bk") & (found.predictor == "minus_slope")]
        words = slope.groupby("question", sort=False).correlation.mean()
        print(f"{kind}: rank correlation of -slope with BK, " + ", ".join(f"{q} {c:+.2f}" for q, c in words.items()))
