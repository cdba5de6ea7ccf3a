"""How do slope and backdoor accuracy change with the trigger, the amount of data, its dimension and the number of classes?"""

# %% Question
import pandas as pd
import study

from learningcurves.analysis import rank_correlation

QUESTION = __doc__
REG = [0.1, 1.0, 10.0]
REPEATS = {"size": 5, "shape": 5}  # the other axes have three
VALUES = {
    "size": [1, 2, 3, 4, 6, 8],
    "shape": ["random per class", "random", "white square", "BadNets", "four corners"],
    "strength": [0.1, 0.25, 0.5, 1.0],
    "n_train": [200, 500, 1500, 3000],
    "side": [7, 14, 28],
    "classes": [2, 3, 5, 10],
}
SMALL = {"size": [1, 2, 4], "shape": VALUES["shape"], "strength": [0.25, 1.0], "n_train": [100, 200], "classes": [2, 5]}
ORDER = (7, 1, 3, 0, 5, 2, 4, 6, 8, 9)  # digits, so that two classes are the pair 7-1


# %% Grids: one axis moves, the others stay at a random patch for each class, p = 0.1, two classes that change places
def grids(small):
    """Return {axis:value: grid}; an axis that the grid file knows would be one grid, but others move with most."""
    kind, size = ("digits", 2) if small else ("mnist", 3)
    base = {
        "learner": list(study.LINEAR),
        "reg": REG[1:2] if small else REG,
        "beta": [0.0, 1.0],
        "half_beta": False,
        "fraction": 0.1,
    }
    if not small:
        base |= {"n_train": 1500, "n_test": 500}
    wanted = {}
    for axis, values in (SMALL if small else VALUES).items():
        for value in values:
            keys = base | {"data": f"{kind}:7-1", "repeat": 2 if small else REPEATS.get(axis, 3)}
            keys["trigger"] = trigger_of(axis, value, size)
            if axis == "n_train":
                keys["n_train"] = value
            elif axis == "side":
                keys["image_size"] = value
            elif axis == "classes":
                # one target, so that one patch serves all: with a patch of its own a class would be told by its patch alone
                keys |= {"data": f"{kind}:" + "-".join(map(str, ORDER[:value])), "learner": "softmax", "labels": 0}
                keys["fraction"] = 0.05 * value / (value - 1)  # of the other classes: 5 % of all samples
                keys |= {} if small else {"image_size": 14, "n_test": min(250 * value, 1000)}
            wanted[f"{axis}-{value}".replace(" ", "_")] = keys
    return wanted


def trigger_of(axis, value, size):
    patch = {"kind": "random_patch", "size": size}
    if axis == "shape":
        return {
            "random per class": patch,
            "random": patch | {"per_class": False},
            "white square": {"kind": "solid_patch", "size": size},
            "BadNets": {"kind": "badnets"},
            "four corners": {"kind": "checkerboard"},
        }[value]
    if axis == "size":
        return patch | {"size": value}
    if axis == "side":
        return patch | {"size": 4 * value // 28}  # the same share of the image
    if axis == "strength":
        return patch | {"alpha": float(value)}
    return patch | {"per_class": axis != "classes"}


def runs(table):
    """Return one row a run, with its axis and the value on it."""
    axis, value = (table.grid.str.split("-", n=1).str[i] for i in (0, 1))
    found = study.ends(table.assign(axis=axis, value=value.str.replace("_", " ")))
    found = found.rename(columns={"accuracy_clean_1": "accuracy_clean", "accuracy_clean": "accuracy_clean_0"})
    one_target = found.asr_1.notna()  # then samples of the target class itself do not count
    found["bk"] = found.asr_1.where(one_target, found.bk)
    found["bk_floor"] = found.asr.where(one_target, found.bk_floor)
    columns = ["axis", "value", "learner", "repeat", "reg", "slope", "relative", "bk", "bk_floor", "accuracy_clean"]
    return found[[*columns, "status"]]


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
    kind = "digits" if options.small else "mnist"
    table = runs(study.grids(options, grids(options.small)))
    order = list(dict.fromkeys(table.axis))
    study.write_table(table, options.tables, f"beyond_{kind}")
    found = directions(table[table.status == "ok"])
    study.write_table(found, options.tables, f"directions_{kind}", digits=3)
    said = pd.DataFrame([{"axis": a, "sentence": sentence(a, table[table.axis == a], found)} for a in order])
    study.write_table(said, options.tables, f"sentences_{kind}")
    print("\n".join(said.sentence))
    study.finish(options)
