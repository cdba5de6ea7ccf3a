"""Where on the map of lambda, gamma and the poisoned fraction is a learner accurate and safe, and is that region stable?"""

# %% Question
import numpy as np
import pandas as pd
import study

import learningcurves as lc
from learningcurves.grid.problems import problem_of
from learningcurves.grid.tasks import make_learner

QUESTION = __doc__
REG = [float(r) for r in np.geomspace(1e-3, 1e4, 15)]
REG_RBF = [float(r) for r in np.geomspace(1e-3, 1e2, 11)]
FRACTIONS = [0.02, 0.05, 0.1, 0.2]
N_SEEDS = 2  # of the region's stability; the maps have one seed


# %% Grids: maps at one seed, the region at p = 0.1 for more seeds and triggers
def grids(kind, pairs, small=False):
    low, high = study.GAMMAS[kind]
    first = {"trigger": study.patches(kind, study.PATCHES[kind][:1])}
    base = study.settings(kind) | {"data": pairs, "beta": [0.0, 1.0]}
    linear = {"learner": list(study.LINEAR), "reg": REG}
    gammas = [float(g) for g in np.geomspace(low, high * 10, 5)]
    seeds = study.settings(kind, study.SEEDS[:N_SEEDS])
    return {
        f"{kind}-stability": base | linear | seeds | {"trigger": study.patches(kind), "fraction": 0.1},
        f"{kind}-fraction": base | linear | first | {"fraction": FRACTIONS},
        f"{kind}-gamma": base | first | {"fraction": 0.1, "learner": "rbf_svm", "gamma": gammas, "reg": REG_RBF},
    }


def measure_region(task):
    """Scores at beta = 1 along lambda, and the safe region of these lambda with its ends bisected on exact solves."""
    reg = [cell["reg"] for cell in task.cells]
    region = lc.safe_region(make_learner(task.cells[0]), problem_of(task.cells[0], task.places), reg=reg)
    low = min((a for a, _ in region.intervals), default=float("nan"))
    high = max((b for _, b in region.intervals), default=float("nan"))
    facts = {"n_intervals": len(region.intervals), "safe_low": low, "safe_high": high, "best": region.best}
    by_reg = region.table.set_index("reg")
    found = []
    for value in reg:
        row = by_reg.loc[value]
        scores = {"beta": 1.0, "bk": row.bk, "accuracy_clean": row.accuracy_clean, "slope_at_0": row.slope}
        rows = {name: [float(v)] for name, v in {**scores, "safe": row.safe, **facts}.items()}
        found.append({"facts": {"bk_floor": float(row.bk_floor)}, "rows": rows})
    return found


# %% Is the region stable?
def regions(table):
    """Return one row a cell: the hull of the safe lambda at p = 0.1 (linear learners)."""
    part = table[table["map"] == "stability"].astype({"n_intervals": int})
    keys = ["pair", "learner", "trigger", "seed"]
    return part.drop_duplicates(keys)[[*keys, "n_intervals", "safe_low", "safe_high", "best"]]


def stability(found):
    """Share of lambda (on the log scale) that pairs of regions have in common, by what the two differ in."""
    rows = []
    for name, group in found.groupby("learner", sort=False):
        cells = group.to_dict("records")
        for what in ("seed", "trigger", "pair"):
            others = [c for c in ("pair", "trigger", "seed") if c != what]
            scores = [
                _overlap(a, b)
                for i, a in enumerate(cells)
                for b in cells[:i]
                if a[what] != b[what] and all(a[c] == b[c] for c in others)
            ]
            scores = [score for score in scores if np.isfinite(score)]
            if scores:
                rows.append(
                    {"learner": name, "differ_in": what, "overlap": np.mean(scores), "smallest": np.min(scores)}
                    | {"n_pairs": len(scores), "share_empty": float((group.n_intervals == 0).mean())}
                )
    columns = ["learner", "differ_in", "overlap", "smallest", "n_pairs", "share_empty"]
    return pd.DataFrame(rows, columns=columns)


def _overlap(a, b):
    if not (a["n_intervals"] and b["n_intervals"]):
        return float("nan") if a["n_intervals"] == b["n_intervals"] else 0.0  # none in common; none at all says nothing
    low = np.log([a["safe_low"], b["safe_low"]])
    high = np.log([a["safe_high"], b["safe_high"]])
    union = high.max() - low.min()
    return max(0.0, (high.min() - low.max()) / union) if union > 0 else 1.0


def finding(score):
    return "Two safe regions share, on the log scale of lambda: " + "; ".join(
        f"{r.learner}, another {r.differ_in}: {r.overlap:.0%}" for r in score.itertuples()
    )


# %% Run, tables, finding
COLUMNS = [
    "pair", "trigger", "fraction", "gamma", "map", "learner", "reg", "bk", "bk_floor", "accuracy_clean", "slope_at_0",
    "safe", "n_intervals", "safe_low", "safe_high", "best",
]  # fmt: skip

if __name__ == "__main__":
    options = study.arguments(QUESTION, "05", data=("mnist", "cifar10"))
    for kind, pairs in study.by_kind(options.pairs).items():
        table = study.grids(options, grids(kind, pairs, options.small), measure_region)
        table = table[table.status == "ok"].assign(
            map=table.grid.str.split("-").str[1], safe=lambda f: f.safe.astype(bool)
        )
        study.write_table(table[table["map"] != "stability"][COLUMNS], options.tables, f"maps_{kind}", digits=4)
        found = regions(table)
        study.write_table(found, options.tables, f"regions_{kind}", digits=4)
        score = stability(found)
        study.write_table(score, options.tables, f"stability_{kind}", digits=3)
        print(kind, finding(score))
    study.finish(options)
