"""How do the weights turn and grow along beta, in the order of beta?"""

# %% Question and table
import draw
import numpy as np

from learningcurves.plotting import DeviationDisplay, figure
from learningcurves.plotting.style import COLUMN, group_styles, local

given = draw.options(__doc__).parse_args()

for kind in given.data:
    table = draw.table(given, f"deviation_{kind}")
    if table is None:
        continue
    part = draw.named(table[(table.pair == table.pair.iloc[0]) & (table.trigger == table.trigger.iloc[0])])
    linear = part[part.learner != "rbf_svm"][["model", "reg", "beta", "nu", "rho_relative"]]
    kernel = part[part.learner == "rbf_svm"][["model", "reg", "beta", "nu", "rho_relative"]]
    for name, rows in (("linear", linear), ("rbf", kernel)):
        display = DeviationDisplay.from_frame(rows, y="rho_relative", group="model", panel="reg")
        draw.save(display, given, f"deviation_{kind}_{name}")

    # %% Growth of the weights against what the attacker got: every setting a point
    grown = draw.table(given, f"growth_{kind}")
    grown = grown.assign(model=np.where(grown.learner == "rbf_svm", "rbf_svm", grown.learner))
    with local():
        fig, axes = figure(1, 1, COLUMN, aspect=0.85)
        ax = axes[0, 0]
        styles = group_styles(grown.model.unique())
        for model, rows in grown.groupby("model", sort=False):
            ax.scatter(
                rows.growth, rows.bk, color=styles[model].color, marker=styles[model].marker, s=14, linewidth=0.3,
                edgecolor="#333333", label=model.replace("_", " ").replace("rbf", "RBF").replace("svm", "SVM"),
            )  # fmt: skip
        ax.axvline(1, color="#888888", linewidth=0.6)
        ax.set_xlabel("growth of the weights ρ(1)/ρ(0)")
        ax.set_ylabel("backdoor accuracy")
        fig.legend(loc="outside upper center", ncols=4, columnspacing=0.8, handletextpad=0.2)
    draw.save(fig, given, f"growth_{kind}")

    # %% Finding
    taken = grown[grown.n_learned == grown.n]
    for model, rows in taken.groupby("model"):
        print(f"{kind}: {model} grows in {(rows.growth > 1).sum()} of {len(rows)} settings that learn the backdoor")
