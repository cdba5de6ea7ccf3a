"""What does a poisoned classifier look at, and which training samples made it so?"""

# %% Question
from functools import lru_cache

import numpy as np
import pandas as pd
import study
from sklearn.base import clone

import learningcurves as lc

QUESTION = __doc__
REG = {"logistic": 1.0, "rbf_svm": 0.1}  # where the backdoor is learned and the clean accuracy kept
TOP = 7
N_TEST = 3  # triggered test samples explained, of each class


# %% Cells
def cells(kind, pairs):
    size = study.PATCHES[kind][-1 if kind == "mnist" else 0]  # 6x6 of 28x28 pixels, 8x8 of 32x32
    return [
        {"pair": pair, "trigger": f"patch-{size}", "learner": name, "gamma": gamma}
        for pair in pairs
        for name, gamma in (("logistic", None), ("rbf_svm", study.GAMMAS[kind][-1]))
    ]


def chosen_tests(problem):
    """Return the first few triggered test samples of each true class."""
    return np.concatenate([np.flatnonzero(problem.y_source == c)[:N_TEST] for c in problem.classes])


def measure(cell):
    problem = study.problem_of(cell["pair"], cell["trigger"])
    learner = study.learner_of(cell["learner"], cell["gamma"]).set_params(reg=REG[cell["learner"]])
    tests = chosen_tests(problem)
    return [*_gradients(learner, problem, tests, cell), *_influences(learner, problem, tests)]


def _gradients(learner, problem, tests, cell):
    """Share of the gradient on the patch in the clean and the poisoned model, and the maps of the first of each class.

    Pixels: a map adds up the colours; the share is of the squared gradient over all of them.
    """
    images = study.problem_of(cell["pair"], cell["trigger"], pixels=True)
    both_X = np.vstack([problem.X_clean, problem.X_backdoor])
    both_y = np.concatenate([problem.y_clean, problem.y_backdoor])
    clean = clone(learner).fit(problem.X_clean, problem.y_clean)
    poisoned = clone(learner).fit(both_X, both_y)
    size, side = int(cell["trigger"].removeprefix("patch-")), images.image_shape[-1]
    rows = []
    for i, t in enumerate(tests):
        grads = [lc.input_gradient(model, problem.X_triggered[t : t + 1])[0] for model in (clean, poisoned)]
        if problem.image_shape is None:
            grads = [through_network(images.X_triggered[t].reshape(images.image_shape), g) for g in grads]
        maps = [g.reshape(-1, side, side) for g in grads]
        share = [float((m[:, -size:, -size:] ** 2).sum() / (m**2).sum()) for m in maps]
        rows.append({"part": "share", "test": int(t), "clean": share[0], "poisoned": share[1]})
        if i % N_TEST == 0:
            flat = [m.sum(axis=0).ravel() for m in maps]
            rows += [
                {"part": "gradient", "test": int(t), "pixel": k, "clean": float(a), "poisoned": float(b)}
                for k, (a, b) in enumerate(zip(*flat, strict=True))
            ]
    return rows


def through_network(image, gradient):
    """Return d score / d pixel, where `gradient` is d score / d feature: the chain rule through the frozen network."""
    import torch
    import torch.nn.functional as F

    frozen = extractor()
    x = torch.tensor(image[None], dtype=torch.float32, requires_grad=True)
    large = F.interpolate(x, (study.IMAGE_SIDE,) * 2, mode="bicubic", align_corners=False).clamp(0, 1)
    features = frozen.network.features(2 * large - 1)
    # the very features the learner saw, else the gradient would be another function's
    np.testing.assert_allclose(features.detach().numpy(), frozen.features(image[None]), atol=1e-3)
    (features @ torch.tensor(gradient, dtype=torch.float32)).sum().backward()
    return x.grad[0].numpy().astype(float)


@lru_cache(maxsize=1)
def extractor():
    from learningcurves.networks.mobilenet import MobileNetV2Features

    return MobileNetV2Features(study.weights_file(), size=study.IMAGE_SIDE)


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
def summary(table):
    rows = []
    for (pair, name), group in table.groupby(["pair", "learner"], sort=False):
        inside, top = group[group.part == "share"], group[group.part == "influence"]
        share = top.groupby("kind").is_backdoor.apply(lambda f: float(f.astype(bool).mean()))
        rows.append(
            {
                "pair": pair, "learner": name, "trigger": group.trigger.iloc[0], "reg": REG[name],
                "patch_share_clean": inside.clean.median(), "patch_share_poisoned": inside.poisoned.median(),
                "n_gradients": len(inside), "n_more": int((inside.poisoned > inside.clean).sum()),
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
    options = study.arguments(QUESTION, "04", data=("mnist", "cifar10"))
    for kind, pairs in study.by_kind(options.pairs).items():
        table = study.run(cells(kind, pairs), measure, options.out, options.n_jobs)
        keys = ["pair", "trigger", "learner", "gamma", "test"]
        top = table[table.part == "influence"].astype({"rank": int, "sample": int})
        study.write_table(
            top[[*keys, "kind", "rank", "sample", "value", "is_backdoor"]], options.tables, f"influence_{kind}"
        )
        first = table[(table.part == "gradient") & (table.pair == pairs[0])].astype({"pixel": int})
        study.write_table(first[[*keys, "pixel", "clean", "poisoned"]], options.tables, f"gradients_{kind}", digits=3)
        facts = summary(table)
        study.write_table(facts, options.tables, f"explanations_{kind}", digits=4)
        print(kind, finding(facts))
    study.finish(options)
