"""Does SODA take a rare class of a clean network for the target of a backdoor?"""

# %% Question
import numpy as np
import soda_study as soda
import study

import learningcurves as lc
from learningcurves.networks import train

QUESTION = __doc__
RARE = (1.0, 0.3, 0.1, 0.03)  # share of its samples that the rare class keeps
CLASS = 5


# %% Cells: a clean network trained with few samples of one class
def measure(cell):
    source, _ = soda.images(cell["data"], cell["seed"])
    rows = np.flatnonzero(source.y_train == CLASS)
    kept = rows[: max(2, round(cell["rare"] * len(rows)))]
    keep = np.sort(np.concatenate([np.flatnonzero(source.y_train != CLASS), kept]))
    shape = source.image_shape
    X, y = source.X_train[keep].reshape(-1, *shape), source.y_train[keep]

    def fit(network):
        train(network, ((X, y), (X[:0], y[:0])), seed=cell["seed"], **soda.training(cell["data"]))

    network = soda.trained(cell, f"rare={cell['rare']:g}", fit)
    clean = soda.clean_part(cell["data"], cell["seed"])
    rows = []
    for offset in ("constant", "spread"):
        report = lc.detect_soda(network, clean, offset=offset)
        rows.append(
            {
                "offset": offset,
                "n_rare": len(kept),
                "index_rare": report.index[CLASS],
                "rare_is_first": report.target == CLASS,
                "index": report.index[report.target],
                "flagged": report.verdict == "backdoored",
                "flagged_calibrated": -report.index[report.target] > lc.detect_soda(network, clean, fpr=0.05).threshold,
            }
        )
    return rows


def by_share(table):
    return soda.means(
        table, ["data", "offset", "rare"], ["n_rare", "index_rare", "rare_is_first", "flagged", "flagged_calibrated"]
    )


if __name__ == "__main__":
    options = soda.arguments(QUESTION, "24")
    table = study.run(soda.cells_of(options.pairs, ("clean",), rare=RARE), measure, options.out, options.n_jobs)
    summary = by_share(table)
    study.write_table(table, options.tables, "soda_imbalance")
    study.write_table(summary, options.tables, "soda_imbalance_mean", digits=3)
    print(soda.markdown(summary))
