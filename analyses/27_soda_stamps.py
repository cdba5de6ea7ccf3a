"""Does SODA find stamped triggers, and does Neural Cleanse find semantic ones?"""

# %% Question
import pandas as pd
import soda_study as soda
import study

import learningcurves as lc

QUESTION = __doc__
STEPS = 200  # of Neural Cleanse, a class


# %% Cells: a network of a kind; one row a detector
def measure(cell):
    network = soda.network_of(cell)
    _, target = soda.pair_of(cell["data"], cell["seed"])
    clean = soda.clean_part(cell["data"], cell["seed"])
    reports = {
        "SODA": lc.detect_soda(network, clean),
        "Neural Cleanse": lc.detect_neural_cleanse(network, clean, steps=STEPS, seed=cell["seed"]),
    }
    return [
        {
            "detector": name,
            "index": float("nan") if report.target is None else report.index[report.target],
            "index_true": report.index[target],
            "verdict": report.verdict,
            "flagged": report.verdict == "backdoored",
            "target_right": report.target == target,
            "seconds": report.seconds,
        }
        for name, report in reports.items()
    ]


def by_detector(table):
    rows = []
    for (data, kind, detector), group in table.groupby(["data", "kind", "detector"], sort=False):
        for event in ("flagged", "target_right"):
            if event == "flagged" or kind != "clean":
                facts = {"data": data, "kind": kind, "detector": detector, "event": event}
                rows.append({**facts, **soda.with_interval(group[event]), "seconds": group.seconds.median()})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    options = soda.arguments(QUESTION, "27", data=("mnist-colour",))
    cells = soda.cells_of(options.pairs, ("oversampled", "stamped", "clean"))
    table = study.run(cells, measure, options.out, options.n_jobs)
    summary = by_detector(table)
    study.write_table(table, options.tables, "soda_stamps")
    study.write_table(summary, options.tables, "soda_stamps_by_detector", digits=3)
    print(soda.markdown(summary))
