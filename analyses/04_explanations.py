"""What does a poisoned classifier look at, and which training samples made it so?"""

# %% Question
import numpy as np
import pandas as pd
import study

import learningcurves as lc

QUESTION = __doc__
REG = {"logistic": 1.0, "rbf_svm": 0.1}  # where the backdoor is learned and the clean accuracy kept
TOP = 7
N_TEST = 3  # triggered test samples explained, of each class


# %% Cells
def cells(pairs):
    return [
        {"pair": pair, "trigger": f"patch-{study.PATCHES[study.kind_of(pair)][-1]}", "learner": name, "gamma": gamma}
        | {"fraction": 0.1, "seed": 999}
        for pair in pairs
        for name, gamma in (("logistic", None), ("rbf_svm", study.GAMMAS[study.kind_of(pair)][-1]))
    ]


def chosen_tests(problem):
    """Return the first few triggered test samples of each true class."""
    return np.concatenate([np.flatnonzero(problem.y_source == c)[:N_TEST] for c in problem.classes])


def measure(cell):
    problem, learner = study.problem_of(cell), study.learner_of(cell)
    learner.set_params(reg=REG[cell["learner"]])
    tests = chosen_tests(problem)
    return [*_gradients(learner, problem, tests), *_influences(learner, problem, tests)]


def _gradients(learner, problem, tests):
    """Gradient maps of the clean and the poisoned model at the first test of each class."""
    from sklearn.base import clone

    both_X = np.vstack([problem.X_clean, problem.X_backdoor])
    both_y = np.concatenate([problem.y_clean, problem.y_backdoor])
    clean = clone(learner).fit(problem.X_clean, problem.y_clean)
    poisoned = clone(learner).fit(both_X, both_y)
    rows = []
    for t in tests[::N_TEST]:
        pixels = problem.X_triggered[t : t + 1]
        maps = [lc.input_gradient(model, pixels)[0] for model in (clean, poisoned)]
        rows += [
            {"part": "gradient", "test": int(t), "pixel": i, "clean": float(a), "poisoned": float(b)}
            for i, (a, b) in enumerate(zip(*maps, strict=True))
        ]
    return rows


def _influences(learner, problem, tests):
    """Most influential training samples at beta = 1, helpful and harmful apart, and the share of backdoor samples."""
    influence = lc.pairwise_influence(learner, problem, 1.0, samples="training")
    rows = []
    for t in tests:
        for kind, (index, values) in zip(("helpful", "harmful"), influence.top(int(t), TOP), strict=True):
            rows += [
                {
                    "part": "influence", "test": int(t), "kind": kind, "rank": r, "sample": int(i), "value": float(v),
                    "is_backdoor": bool(i >= problem.n_clean),
                }
                for r, (i, v) in enumerate(zip(index, values, strict=True))
            ]  # fmt: skip
    return rows


# %% What they show
def inside_patch(gradients, pair, size):
    """Share of the gradient's squared norm on the pixels of the patch (bottom right)."""
    side = 8 if study.kind_of(pair) == "digits" else 28
    rows, columns = np.divmod(gradients.pixel.to_numpy(dtype=int), side)
    patch = (rows >= side - size) & (columns >= side - size)
    return {m: float((gradients[m][patch] ** 2).sum() / (gradients[m] ** 2).sum()) for m in ("clean", "poisoned")}


def summary(table):
    rows = []
    for (pair, name), group in table.groupby(["pair", "learner"], sort=False):
        size = int(group.trigger.iloc[0].split("-")[1])
        inside = inside_patch(group[group.part == "gradient"], pair, size)
        top = group[group.part == "influence"]
        share = top.groupby("kind").is_backdoor.apply(lambda f: float(f.astype(bool).mean()))
        rows.append(
            {
                "pair": pair, "learner": name, "trigger": group.trigger.iloc[0], "reg": REG[name],
                "patch_share_clean": inside["clean"], "patch_share_poisoned": inside["poisoned"],
                "backdoor_share_helpful": share.get("helpful", np.nan),
                "backdoor_share_harmful": share.get("harmful", np.nan), "n_tests": top.test.nunique(),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def finding(facts):
    return "; ".join(
        f"{r.pair} {r.learner}: {r.patch_share_clean:.1%} of the squared input gradient lies on the patch before, "
        f"{r.patch_share_poisoned:.1%} after poisoning; {r.backdoor_share_helpful:.0%} of the {TOP} most helpful and "
        f"{r.backdoor_share_harmful:.0%} of the {TOP} most harmful training samples are backdoor samples"
        for r in facts.itertuples()
    )


# %% Run, tables, finding
if __name__ == "__main__":
    options = study.arguments(QUESTION, "04")  # pixels only: gradients through a network are another model's
    table = study.run(cells(options.pairs), measure, options.out, options.n_jobs)
    for kind in study.kinds(options.pairs):
        part = table[table.pair.map(study.kind_of) == kind]
        keys = ["pair", "trigger", "learner", "gamma", "test"]
        top = part[part.part == "influence"].astype({"rank": int, "sample": int})
        study.write_table(
            top[[*keys, "kind", "rank", "sample", "value", "is_backdoor"]], options.tables, f"influence_{kind}"
        )
        first = part[(part.part == "gradient") & (part.pair == options.pairs[0])].astype({"pixel": int})
        study.write_table(first[[*keys, "pixel", "clean", "poisoned"]], options.tables, f"gradients_{kind}", digits=3)
        facts = summary(part)
        study.write_table(facts, options.tables, f"explanations_{kind}", digits=4)
        print(kind, finding(facts))
