"""Where on the map of lambda, gamma and the poisoned fraction is a learner accurate and safe, and is that region stable?"""

# %% Question
import numpy as np
import pandas as pd
import study

import learningcurves as lc
from learningcurves.errors import SolveFailed
from learningcurves.grid.problems import problem_of
from learningcurves.grid.tasks import make_learner

QUESTION = __doc__
REG = [float(r) for r in np.geomspace(1e-3, 1e4, 15)]
REG_RBF = [float(r) for r in np.geomspace(1e-3, 1e2, 11)]
REG_REGION = [float(r) for r in np.geomspace(1e-3, 1e6, 19)]  # on features the safe region goes on beyond 1e4
FRACTIONS = [0.02, 0.05, 0.1, 0.2]
ACCURACY_TOL, BK_MAX = 0.02, 0.1  # the defaults of lc.safe_region
N_SEEDS = 2  # of the region's stability; the maps have one seed


# %% Grids: maps at one seed, the region at p = 0.1 for more seeds and triggers
def grids(kind, pairs):
    """Return the grid of the regions, and the grids of the maps."""
    low, high = study.GAMMAS[kind]
    first = {"trigger": study.patches(kind, study.PATCHES[kind][:1])}
    base = study.settings(kind) | {"data": pairs, "beta": [0.0, 1.0]}
    step = 2 if kind == "digits" else 1
    linear = {"learner": list(study.LINEAR), "reg": REG[::step]}
    gammas = [float(g) for g in np.geomspace(low, high * 10, 5)]
    seeds = study.settings(kind, study.SEEDS[:N_SEEDS])
    triggers = {"trigger": [study.patches(kind), study.INVISIBLE], "fraction": 0.1}
    regions = {f"{kind}-stability": base | linear | {"reg": REG_REGION[::step]} | seeds | triggers}
    return regions, {
        f"{kind}-fraction": base | linear | first | {"fraction": FRACTIONS},
        f"{kind}-gamma": base | first | {"fraction": 0.1, "learner": "rbf_svm", "gamma": gammas, "reg": REG_RBF},
    }


def measure_region(task):
    """The safe region over the lambda of a task, its ends bisected on exact solves: the same in each of its cells."""
    reg = [cell["reg"] for cell in task.cells]
    try:
        region = lc.safe_region(make_learner(task.cells[0]), problem_of(task.cells[0], task.places), reg=reg)
    except SolveFailed as error:  # without one lambda there is no region: the cells share its reason
        return [{"status": error.status.name.lower(), "message": str(error)} for _ in reg]
    low = min((a for a, _ in region.intervals), default=float("nan"))
    high = max((b for _, b in region.intervals), default=float("nan"))
    facts = {"n_intervals": len(region.intervals), "safe_low": low, "safe_high": high, "best": region.best}
    facts |= {"searched_low": reg[0], "searched_high": reg[-1]}
    rows = {name: [float(value)] for name, value in {"beta": 1.0, **facts}.items()}
    return [{"facts": {}, "rows": rows} for _ in reg]


def maps(table):
    """Return one row a cell of a map: scores at beta = 1, and whether they are safe as `lc.safe_region` has it."""
    cells = study.ends(table).rename(columns={"accuracy_clean": "accuracy_clean_0", "slope": "slope_at_0"})
    cells = cells.rename(columns={"accuracy_clean_1": "accuracy_clean"})
    along = cells.groupby(["grid", "pair", "learner", "fraction", "gamma"], dropna=False)
    best = along.accuracy_clean.transform("max")
    safe = (cells.accuracy_clean >= best - ACCURACY_TOL - 1e-12) & (cells.bk <= BK_MAX + 1e-12)
    return cells.assign(safe=safe, map=cells.grid.str.split("-").str[1])


# %% Is the region stable?
def regions(table):
    """Return one row a cell: the hull of the safe lambda at p = 0.1 (linear learners), or why there is none."""
    part = table.assign(status=table.status.where(table.status == "ok", "failed")).astype({"n_intervals": "Int64"})
    keys = ["pair", "learner", "trigger", "seed"]
    facts = ["n_intervals", "safe_low", "safe_high", "searched_low", "searched_high", "best"]
    return part.drop_duplicates(keys)[[*keys, *facts, "status"]]


def stability(found):
    """Share of lambda (on the log scale) that pairs of regions have in common, by the one thing the two differ in."""
    rows = []
    for name, group in found[found.status == "ok"].groupby("learner", sort=False):
        cells = group.to_dict("records")
        scores = {}
        for i, a in enumerate(cells):
            for b in cells[:i]:
                differ = [c for c in ("seed", "trigger", "pair") if a[c] != b[c]]
                if len(differ) == 1 and np.isfinite(score := _overlap(a, b)):
                    scores.setdefault(_word(differ[0], a, b), []).append(score)
        for what in ("seed", "size", "trigger", "pair"):
            if what in scores:
                rows.append(
                    {"learner": name, "differ_in": what, "overlap": np.mean(scores[what])}
                    | {"smallest": np.min(scores[what]), "n_pairs": len(scores[what])}
                    | {"share_empty": float((group.n_intervals == 0).mean())}
                )
    columns = ["learner", "differ_in", "overlap", "smallest", "n_pairs", "share_empty"]
    return pd.DataFrame(rows, columns=columns)


def _word(differ, a, b):
    """Tell two sizes of the patch from two kinds of trigger."""
    return "size" if differ == "trigger" and all(c["trigger"].startswith("patch") for c in (a, b)) else differ


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
    "safe", "status",
]  # fmt: skip

if __name__ == "__main__":
    options = study.arguments(QUESTION, "05", data=("mnist", "cifar10"))
    for kind, pairs in study.by_kind(options.pairs).items():
        wanted, wanted_maps = grids(kind, pairs)
        found = regions(study.grids(options, wanted, measure_region))
        study.write_table(found, options.tables, f"regions_{kind}", digits=4)
        score = stability(found)
        study.write_table(score, options.tables, f"stability_{kind}", digits=3)
        cells = maps(study.grids(options, wanted_maps))
        study.write_table(cells[COLUMNS], options.tables, f"maps_{kind}", digits=4)
        print(kind, finding(score))
    study.finish(options)
