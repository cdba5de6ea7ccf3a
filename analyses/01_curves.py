"""How do losses and accuracies move as the backdoor samples gain weight, at every lambda and poisoned fraction?"""

# %% Question
import study

QUESTION = __doc__
REG = [10.0**k for k in range(-3, 5)]
REG_RBF = [10.0**k for k in range(-3, 2)]
BETA = [0.0, 0.01, 0.02, 0.04, 0.06, 0.10, 0.16, 0.24, 0.36, 0.54, 0.81, 0.99, 1.0]
COLUMNS = [
    "pair", "trigger", "learner", "gamma", "fraction", "reg", "beta", "loss_triggered", "loss_clean", "bk",
    "accuracy_clean", "slope", "bound", "status",
]  # fmt: skip


# %% Grids: every learner on every poisoned training set
def grids(kind, pairs):
    sizes = study.PATCHES[kind][: None if kind == "mnist" else 1]  # features cost more than pixels
    base = study.settings(kind) | {
        "data": pairs,
        "trigger": study.patches(kind, sizes),
        "fraction": [0.01, 0.1, 0.2],
        "beta": BETA,
    }
    return {
        f"{kind}-linear": base | {"learner": list(study.LINEAR), "reg": REG},
        f"{kind}-rbf": base | {"learner": "rbf_svm", "gamma": list(study.GAMMAS[kind]), "reg": REG_RBF},
    }


def finding(table):
    """One sentence a data set: at which lambda the backdoor takes hold at beta = 1, p = 0.1."""
    words = []
    last = table[(table.beta == 1) & (table.fraction == 0.1)]
    for name, group in last.groupby("learner"):
        learned = group[group.bk > 0.5].reg
        words.append(
            f"{name}: BK above one half up to lambda = {learned.max():g}" if len(learned) else f"{name}: nowhere"
        )
    return "At p = 0.1 and beta = 1, " + "; ".join(words) + "."


# %% Run, tables, finding
if __name__ == "__main__":
    options = study.arguments(QUESTION, "01", data=("mnist", "cifar10"))
    for kind, pairs in study.by_kind(options.pairs).items():
        table = study.grids(options, grids(kind, pairs))
        # the largest bound of a curve stands for all of its points
        table["bound"] = table.groupby(["grid", "cell"]).bound.transform("max")
        study.write_table(table[COLUMNS], options.tables, f"curves_{kind}", digits=4)
        print(kind, finding(table))
    study.finish(options)
