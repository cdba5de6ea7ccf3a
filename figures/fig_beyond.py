"""How do slope and backdoor accuracy move with trigger, amount of data, dimension and number of classes?"""

# %% Question and table
import draw
import numpy as np

from learningcurves.plotting.style import PAGE, figure, group_styles, local

parser = draw.options(__doc__)
parser.add_argument("--reg", type=float, default=1.0)
given = parser.parse_args()
WORDS = {
    "size": "side of the patch (pixels)", "shape": "trigger", "strength": "opacity α of the patch",
    "n_train": "training samples", "side": "side of the images (pixels)", "classes": "number of classes",
}  # fmt: skip

# %% One picture an axis: medians, bars from the smallest to the largest of the repeats
for kind in given.data:
    table = draw.table(given, f"beyond_{kind}")
    if table is None:
        continue
    table = table[table.reg == given.reg]
    for axis, part in table.groupby("axis", sort=False):
        values = list(dict.fromkeys(part.value))
        styles = group_styles(list(dict.fromkeys(part.learner)))
        with local():
            fig, axes = figure(2, 1, PAGE * 0.85, aspect=0.72)
            for ax, (column, sign) in zip(axes[0], (("bk", 1), ("slope", -1)), strict=True):
                for k, (learner, rows) in enumerate(part.groupby("learner", sort=False)):
                    y = [sign * rows[rows.value == v][column].to_numpy() for v in values]
                    middle = np.array([np.median(v) for v in y])
                    spread = np.array([[m - v.min(), v.max() - m] for m, v in zip(middle, y, strict=True)]).T
                    x = np.arange(len(values)) + 0.08 * (k - 1)
                    ax.errorbar(
                        x,
                        middle,
                        yerr=spread,
                        capsize=2,
                        elinewidth=0.8,
                        label=learner.replace("_", " ").replace("svm", "SVM"),
                        **styles[learner].line(),
                    )
                    if column == "bk":
                        floor = [np.median(rows[rows.value == v].bk_floor) for v in values]
                        ax.plot(x, floor, color=styles[learner].color, linewidth=0.7, linestyle=":")
                ax.set_xticks(range(len(values)), [str(v).replace(" ", "\n") for v in values])
                ax.set_xlabel(WORDS[axis])
            axes[0, 0].set_ylabel("BK (dotted: floor)")
            axes[0, 0].set_ylim(-0.03, 1.03)
            axes[0, 1].set_ylabel("−dL/dβ at β = 0")
            if (part.slope < 0).all():
                axes[0, 1].set_yscale("log")
            handles, names = axes[0, 0].get_legend_handles_labels()
            fig.legend(handles, names, loc="outside upper center", ncols=len(names))
        draw.save(fig, given, f"beyond_{kind}_{axis}")

    # %% Finding
    print("\n".join(draw.table(given, f"sentences_{kind}").sentence))
