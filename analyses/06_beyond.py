"""How do slope and backdoor accuracy change with the trigger, the amount of data, its dimension and the number of classes?"""

# %% Question
from functools import lru_cache

import pandas as pd
import study

import learningcurves as lc
from learningcurves.analysis import rank_correlation

QUESTION = __doc__
REG = (0.1, 1.0, 10.0)
REPEATS = {"size": 5, "shape": 5}  # the other axes have three
VALUES = {
    "size": (1, 2, 3, 4, 6, 8),
    "shape": ("random per class", "random", "white square", "BadNets", "four corners"),
    "strength": (0.1, 0.25, 0.5, 1.0),
    "n_train": (200, 500, 1500, 3000),
    "side": (7, 14, 28),
    "classes": (2, 3, 5, 10),
}
SMALL = {"size": (1, 2, 4), "shape": VALUES["shape"], "strength": (0.25, 1.0), "n_train": (100, 200), "classes": (2, 5)}
LEARNERS = ("linear_svm", "logistic", "ridge")


# %% Cells: one axis moves, the others stay at a 3x3 random patch, p = 0.1, n = 1500, two classes
def cells(small, data):
    rows = []
    for axis, values in (SMALL if small else VALUES).items():
        for value in values:
            for name in ("softmax",) if axis == "classes" else LEARNERS:
                rows += [
                    {"data": data, "axis": axis, "value": value, "learner": name, "repeat": r}
                    for r in range(2 if small else REPEATS.get(axis, 3))
                ]
    return rows


@lru_cache(maxsize=4)
def dataset(name, classes, n_train, side, repeat):
    if name == "digits":
        return lc.load_digits_classes(classes, n_train=n_train, seed=repeat)
    data = lc.load_mnist(classes, n_train=n_train, n_test=min(250 * len(classes), 1000), seed=repeat)
    return data if side == 28 else resized(data, side)


def resized(data, side):
    """Return the images at another side: means of blocks when smaller, repeated pixels when larger."""
    shape = (1, side, side)

    def change(X):
        images = X.reshape(-1, 28, 28)
        if side < 28:
            k = 28 // side
            return images.reshape(-1, side, k, side, k).mean(axis=(2, 4))
        k = side // 28
        return images.repeat(k, axis=1).repeat(k, axis=2)

    return lc.Dataset(
        change(data.X_train).reshape(len(data.y_train), -1), data.y_train,
        change(data.X_test).reshape(len(data.y_test), -1), data.y_test,
        image_shape=shape, value_range=(0.0, 1.0), class_names=data.class_names, name=data.name,
    )  # fmt: skip


def trigger_of(axis, value, repeat, side):
    size = 4 * side // 28 if axis == "side" else value if axis == "size" else 2 if side == 8 else 3
    if axis == "shape":
        return {
            "random per class": lc.RandomPatch(size=size, seed=repeat),
            "random": lc.RandomPatch(size=size, per_class=False, seed=repeat),
            "white square": lc.SolidPatch(size=size),
            "BadNets": lc.badnets_patch(),
            "four corners": lc.Checkerboard(),
        }[value]
    if axis == "strength":
        return lc.SolidPatch(size=size, alpha=float(value))
    # several classes share one patch: with a patch of its own a class would be told by its patch alone
    return lc.RandomPatch(size=size, per_class=axis != "classes", seed=repeat)


def measure(cell):
    small, axis, value = cell["data"] == "digits", cell["axis"], cell["value"]
    base = (7, 1, 3, 0, 5, 2, 4, 6, 8, 9)
    classes = base[: value if axis == "classes" else 2]
    n_train = value if axis == "n_train" else None if small else 1500
    side = 8 if small else value if axis == "side" else 14 if axis == "classes" else 28
    data = dataset(cell["data"], classes, n_train, side, cell["repeat"])
    trigger = trigger_of(axis, value, cell["repeat"], side)
    problem = lc.poison(data, trigger, 0.1, seed=cell["repeat"])
    learner = lc.Softmax() if cell["learner"] == "softmax" else study.learner_of(cell)
    rows = []
    for curve in lc.learning_curve(learner, problem, [0.0, 1.0], reg=REG):
        rows.append(
            {
                "reg": curve.reg, "slope": float(curve.slope[0]),
                "relative": float(-curve.slope[0] / curve.loss_triggered[0]), "bk": float(curve.bk[1]),
                "bk_floor": curve.bk_floor, "accuracy_clean": float(curve.accuracy_clean[1]),
            }
        )  # fmt: skip
    return rows


# %% One sentence an axis
def directions(table):
    """Rank correlation of the axis with slope and BK at fixed learner and lambda, with intervals over repeats."""
    rows = []
    for axis, group in table.groupby("axis", sort=False):
        order = {v: i for i, v in enumerate(dict.fromkeys(group.value))}
        group = group.assign(
            place=[order[v] for v in group.value], minus_slope=-group.slope, gain=group.bk - group.bk_floor
        )
        for target in ("minus_slope", "relative", "bk", "gain", "accuracy_clean"):
            r = rank_correlation(group, "place", target, within=["learner", "reg"], repeat="repeat", n_boot=300)
            rows.append(
                {"axis": axis, "target": target, "correlation": r.value, "low": r.low, "high": r.high, "n": r.n}
            )
    return pd.DataFrame(rows)


def sentence(axis, group, found):
    """Say what moves along one axis: medians at its ends and the rank correlations."""
    named = {"size": "trigger size", "shape": "trigger shape", "strength": "trigger strength", "n_train": "n_train",
             "side": "image side", "classes": "number of classes"}[axis]  # fmt: skip
    ends = list(dict.fromkeys(group.value))
    if axis == "shape":
        middle = group.groupby("value").bk.median().sort_values()
        return f"{named}: median BK from {middle.iloc[0]:.2f} ({middle.index[0]}) to {middle.iloc[-1]:.2f} ({middle.index[-1]})."
    first, last = (group[group.value == v] for v in (ends[0], ends[-1]))
    by = found[found.axis == axis].set_index("target")
    return (
        f"{named} {ends[0]} to {ends[-1]}: median BK {first.bk.median():.2f} to {last.bk.median():.2f} "
        f"(rank correlation {by.correlation['bk']:+.2f} [{by.low['bk']:+.2f}, {by.high['bk']:+.2f}]), median -slope "
        f"{-first.slope.median():.3g} to {-last.slope.median():.3g} ({by.correlation['minus_slope']:+.2f} "
        f"[{by.low['minus_slope']:+.2f}, {by.high['minus_slope']:+.2f}])."
    )


# %% Run, tables, finding
if __name__ == "__main__":
    options = study.arguments(QUESTION, "06")
    kind = study.kind_of(options.pairs[0])
    table = study.run(cells(options.small, kind), measure, options.out, options.n_jobs)
    table["value"] = table.value.astype(str)
    order = list(dict.fromkeys(table.axis))
    study.write_table(table.drop(columns=["data", "status"]), options.tables, f"beyond_{kind}")
    found = directions(table)
    study.write_table(found, options.tables, f"directions_{kind}", digits=3)
    said = pd.DataFrame([{"axis": a, "sentence": sentence(a, table[table.axis == a], found)} for a in order])
    study.write_table(said, options.tables, f"sentences_{kind}")
    print("\n".join(said.sentence))
