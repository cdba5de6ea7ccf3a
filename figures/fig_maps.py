"""Where on the map of lambda and gamma, or lambda and the poisoned fraction, is a learner accurate and safe?"""

# %% Question and table
import draw
import numpy as np

from learningcurves.plotting import MapDisplay
from learningcurves.plotting.style import PAGE, figure, group_styles, local

given = draw.options(__doc__).parse_args()

for kind in given.data:
    table = draw.table(given, f"maps_{kind}")
    if table is None:
        continue
    table = table[table.pair == table.pair.iloc[0]]
    columns = ["reg", "bk", "accuracy_clean", "safe"]

    # %% lambda and gamma of the RBF SVM
    rows = table[table["map"] == "gamma"]
    draw.save(
        MapDisplay.from_frame(rows[["gamma", *columns]], safe="safe", width=PAGE * 0.7), given, f"map_gamma_{kind}"
    )

    # %% lambda and fraction, a picture a learner
    for learner in ("linear_svm", "logistic", "ridge"):
        rows = table[(table["map"] == "fraction") & (table.learner == learner)]
        display = MapDisplay.from_frame(rows[["fraction", *columns]], x="fraction", safe="safe", width=PAGE * 0.7)
        draw.save(display, given, f"map_fraction_{kind}_{learner}")

    # %% The safe lambda of every pair, trigger and seed, one bar each
    found = draw.table(given, f"regions_{kind}")
    if found is None:
        continue
    learners = list(dict.fromkeys(found.learner))
    with local():
        fig, axes = figure(len(learners), 1, PAGE, aspect=0.9, sharey=True, sharex=True)
        rows = found[found.learner == learners[0]][["pair", "trigger"]].drop_duplicates().to_dict("records")
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
                    else:
                        ax.plot(0.02, y, marker="x", color=styles[seed].color, transform=ax.get_yaxis_transform())
            ax.set_xscale("log")
            ax.set_xlim(1e-3, 1e4)
            ax.xaxis.set_minor_formatter("")
            ax.set_title(learner.replace("_", " ").replace("svm", "SVM"), loc="left")
            ax.set_yticks(
                range(len(rows)), [f"{r['pair'].split(':')[1]}, {r['trigger'].split('-')[1]} px" for r in rows]
            )
        axes[0, 0].invert_yaxis()
        fig.supxlabel("safe regularisation λ (a cross: none; blank: not run)", fontsize=8)
    draw.save(fig, given, f"regions_{kind}")

    # %% Finding
    shared = draw.table(given, f"stability_{kind}")
    if shared is not None:
        print(shared[["learner", "differ_in", "overlap"]].to_string())
