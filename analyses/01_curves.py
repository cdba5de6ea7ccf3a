"""How do losses and accuracies move as the backdoor samples gain weight, at every lambda and poisoned fraction?"""

# %% Question
import study

import learningcurves as lc

QUESTION = __doc__
REG = tuple(10.0**k for k in range(-3, 5))
REG_RBF = tuple(10.0**k for k in range(-3, 2))
BETA = (0.0, 0.01, 0.02, 0.04, 0.06, 0.10, 0.16, 0.24, 0.36, 0.54, 0.81, 0.99, 1.0)


# %% Cells: a learner on one poisoned training set; all lambda share its work
def cells(pairs):
    return [
        {"pair": pair, "trigger": f"patch-{size}", "learner": name, "gamma": gamma, "fraction": p, "seed": 999}
        for pair in pairs
        for size in study.PATCHES[study.kind_of(pair)]
        for p in (0.01, 0.1, 0.2)
        for name, gamma in study.learners(pair)
    ]


def measure(cell):
    problem = study.problem_of(cell)
    curves = lc.learning_curve(
        study.learner_of(cell), problem, BETA, reg=REG_RBF if cell["learner"] == "rbf_svm" else REG
    )
    rows = []
    for curve in curves:
        frame = curve.to_frame()[["beta", "loss_triggered", "loss_clean", "bk", "accuracy_clean", "rho", "nu", "slope"]]
        worst = {"bound": float(curve.bound.max())}
        status = ["ok" if s.ok else s.name for s in curve.status]
        rows += [
            {"reg": curve.reg, **row, **worst, "status": s}
            for row, s in zip(frame.to_dict("records"), status, strict=True)
        ]
    return rows


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
    table = study.run(cells(options.pairs), measure, options.out, options.n_jobs)
    for kind in study.kinds(options.pairs):
        part = table[table.pair.map(study.kind_of) == kind]
        study.write_table(part.drop(columns=["seed", "rho", "nu"]), options.tables, f"curves_{kind}", digits=4)
        print(kind, finding(part))
