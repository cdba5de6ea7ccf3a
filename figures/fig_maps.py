"""Where on the map of lambda and gamma, or lambda and the poisoned fraction, is a learner accurate and safe?"""

# %% Question and table
import draw
import numpy as np
from matplotlib.lines import Line2D

from learningcurves.plotting import MapDisplay
from learningcurves.plotting.labels import axis_label
from learningcurves.plotting.style import PAGE, figure, group_styles, local

given = draw.options(__doc__).parse_args()
LIMITS = {"bk": (0.0, 1.0), "accuracy_clean": (0.5, 1.0)}  # the same colours in every panel
BARS = {"bk": "backdoor accuracy", "accuracy_clean": "clean accuracy"}


# %% A row a table, a column a pair, one colour bar a row of measures
def panels(rows, x, values):
    """Return a figure of maps: `rows` is {title: table}, `values` the measure of each."""
    pairs = list(dict.fromkeys(p for table in rows.values() for p in table.pair))
    with local():
        fig, axes = figure(len(pairs), len(rows), PAGE * max(0.5, len(pairs) / 3), aspect=0.8, sharex=True, sharey=True)
        for i, ((title, table), value) in enumerate(zip(rows.items(), values, strict=True)):
            for j, pair in enumerate(pairs):
                part = table[table.pair == pair]
                if part.empty:
                    axes[i, j].set_axis_off()
                    continue
                shown = MapDisplay.from_frame(
                    part[[x, "reg", value, "safe"]], x=x, values=value, safe="safe", limits=LIMITS, ax=axes[i, j],
                    legend=False, colorbar=False,
                )  # fmt: skip
                axes[i, j].set_title(f"{draw.short(pair.split(':')[1])}, {title}", loc="left")
                axes[i, j].set_xlabel(axis_label(x) if i == len(rows) - 1 else "")
                axes[i, j].set_ylabel(axis_label("reg") if j == 0 else "")
                if j == 0 and (i == 0 or len(set(values)) > 1):
                    which = axes if len(set(values)) == 1 else axes[i]
                    bar = fig.colorbar(shown.meshes_[value], ax=which.ravel().tolist(), aspect=30, pad=0.02)
                    bar.set_label(BARS[value])
        key = [Line2D([], [], color="black", linewidth=1.6, label="safe region")]
        fig.legend(handles=key, loc="outside upper center")
    return fig


def in_words(trigger):
    name, size = trigger.split("-")
    return f"{size} px" if name == "patch" else name


for kind in given.data:
    table = draw.table(given, f"maps_{kind}")
    # %% lambda and fraction of the linear learners, lambda and gamma of the RBF SVM; a column a pair
    if table is not None:
        fractions, gammas = (table[table["map"] == name] for name in ("fraction", "gamma"))
        for value in ("bk", "accuracy_clean"):
            by_learner = {
                n.replace("_", " ").replace("svm", "SVM"): g for n, g in fractions.groupby("learner", sort=False)
            }
            draw.save(panels(by_learner, "fraction", [value] * len(by_learner)), given, f"map_fraction_{kind}_{value}")
        if len(gammas):
            both = {"backdoor accuracy": gammas, "clean accuracy": gammas}
            draw.save(panels(both, "gamma", ["bk", "accuracy_clean"]), given, f"map_gamma_{kind}")

    # %% The safe lambda of every pair, trigger and seed, one bar each
    found = draw.table(given, f"regions_{kind}")
    if found is None:
        continue
    found = found[found.status == "ok"]
    learners = list(dict.fromkeys(found.learner))
    with local():
        rows = found[["pair", "trigger"]].drop_duplicates().to_dict("records")
        fig, axes = figure(len(learners), 1, PAGE, aspect=max(0.7, 0.13 * len(rows)), sharey=True, sharex=True)
        styles = group_styles(sorted(found.seed.unique()))
        for ax, learner in zip(axes[0], learners, strict=True):
            for i, row in enumerate(rows):
                same = found[
                    (found.learner == learner) & (found.pair == row["pair"]) & (found.trigger == row["trigger"])
                ]
                for k, (seed, low, high) in enumerate(zip(same.seed, same.safe_low, same.safe_high, strict=True)):
                    y = i + 0.22 * (k - (len(same) - 1) / 2)
                    if np.isfinite(low):
                        ax.plot([low, high], [y, y], color=styles[seed].color, linewidth=2.2, solid_capstyle="butt")
                        if high >= same.searched_high.iloc[0]:  # the region may go on
                            ax.plot(high, y, marker=">", markersize=4, color=styles[seed].color, clip_on=False)
                    else:
                        ax.plot(0.02, y, marker="x", color=styles[seed].color, transform=ax.get_yaxis_transform())
            ax.set_xscale("log")
            ax.set_xlim(found.searched_low.min(), found.searched_high.max())
            ax.xaxis.set_minor_formatter("")
            ax.set_title(learner.replace("_", " ").replace("svm", "SVM"), loc="left")
            ax.set_yticks(range(len(rows)), [f"{r['pair'].split(':')[1]}, {in_words(r['trigger'])}" for r in rows])
        axes[0, 0].invert_yaxis()
        fig.supxlabel("safe regularisation λ", fontsize=8)
        keys = [Line2D([], [], color=s.color, linewidth=2.2, label=f"draw with seed {k}") for k, s in styles.items()]
        keys.append(Line2D([], [], color="#444444", linestyle="", marker="x", label="no safe λ"))
        if (found.safe_high >= found.searched_high).any():
            keys.append(Line2D([], [], color="#444444", linestyle="", marker=">", markersize=4, label="may go on"))
        fig.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    draw.save(fig, given, f"regions_{kind}")

    # %% Finding
    shared = draw.table(given, f"stability_{kind}")
    if shared is not None:
        print(shared[["learner", "differ_in", "overlap"]].to_string())
