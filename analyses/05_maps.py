"""Where on the map of lambda, gamma and the poisoned fraction is a learner accurate and safe, and is that region stable?"""

# %% Question
import numpy as np
import pandas as pd
import study

import learningcurves as lc

QUESTION = __doc__
REG = tuple(np.geomspace(1e-3, 1e4, 15).tolist())
REG_RBF = tuple(np.geomspace(1e-3, 1e2, 11).tolist())
FRACTIONS = (0.02, 0.05, 0.1, 0.2)


# %% Cells: maps at one seed, the region at p = 0.1 for more seeds and triggers
def cells(pairs, small=False):
    rows = []
    for pair in pairs:
        kind = study.kind_of(pair)
        sizes, (low, high) = study.PATCHES[kind], study.GAMMAS[kind]
        base = {"pair": pair, "trigger": f"patch-{sizes[0]}", "fraction": 0.1, "seed": 999, "gamma": None}
        linear = ("linear_svm", "logistic", "ridge")
        rows += [
            base | {"map": "fraction", "learner": name, "gamma": gamma, "fraction": p}
            for name, gamma in study.learners(pair, rbf=False)
            for p in FRACTIONS
        ]
        gammas = np.geomspace(low, high * 10, 5).tolist()
        rows += [base | {"map": "gamma", "learner": "rbf_svm", "gamma": g} for g in gammas]
        rows += [
            base | {"map": "stability", "learner": name, "trigger": f"patch-{size}", "seed": seed}
            for name in linear
            for size in sizes
            for seed in study.SEEDS[:2]
        ]
    return sorted(rows, key=lambda cell: cell["map"] != "stability")  # all pairs' regions before the first map


def measure(cell):
    """Scores at beta = 1 along lambda, and the safe region with its ends bisected on exact solves."""
    grid = REG_RBF if cell["learner"] == "rbf_svm" else REG
    region = lc.safe_region(study.learner_of(cell), study.problem_of(cell), reg=grid)
    low = min((a for a, _ in region.intervals), default=None)
    high = max((b for _, b in region.intervals), default=None)
    facts = {"n_intervals": len(region.intervals), "safe_low": low, "safe_high": high, "best": region.best}
    kept = region.table[np.isin(region.table.reg, grid)]
    return [
        {**row, **facts}
        for row in kept[["reg", "bk", "bk_floor", "accuracy_clean", "slope", "safe"]].to_dict("records")
    ]


# %% Is the region stable?
def regions(table):
    """Return one row a cell: the hull of the safe lambda at p = 0.1 (linear learners)."""
    part = table[table["map"] == "stability"]
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
if __name__ == "__main__":
    options = study.arguments(QUESTION, "05", data=("mnist", "cifar10"))
    table = study.run(cells(options.pairs, options.small), measure, options.out, options.n_jobs)
    for kind in study.kinds(options.pairs):
        part = table[table.pair.map(study.kind_of) == kind]
        study.write_table(
            part[part["map"] != "stability"].drop(columns=["seed", "status"]), options.tables, f"maps_{kind}", digits=4
        )
        found = regions(part)
        study.write_table(found, options.tables, f"regions_{kind}", digits=4)
        score = stability(found)
        study.write_table(score, options.tables, f"stability_{kind}", digits=3)
        print(kind, finding(score))
