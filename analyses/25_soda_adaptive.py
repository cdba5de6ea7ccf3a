"""Can an attacker who knows SODA evade it, when the penalty is really optimised, and at what price in accuracy?"""

# %% Question
import soda_study as soda
import study

import learningcurves as lc
from learningcurves.defences.soda_adaptive import AdaptiveLoss
from learningcurves.networks import train

QUESTION = __doc__
RHO = (0.0, 0.5, 0.8, 0.9)


# %% Cells: the over-sampled attack with a penalty of weight rho
def measure(cell):
    problem = soda.attack(cell["data"], cell["kind"], cell["seed"])

    def fit(network):
        X = problem.X_clean[:4].reshape(-1, *problem.image_shape)
        with AdaptiveLoss(network, X, cell["rho"]) as loss:
            train(network, problem, seed=cell["seed"], loss=loss, **soda.training(cell["data"]))

    network = soda.trained(cell, f"adaptive={cell['rho']:g}", fit)
    _, target = soda.pair_of(cell["data"], cell["seed"])
    clean = soda.clean_part(cell["data"], cell["seed"])
    rows = []
    for offset in ("constant", "spread"):
        report = lc.detect_soda(network, clean, offset=offset)
        rows.append(
            {
                "offset": offset,
                **soda.scores_of(network, cell),
                "index_true": report.index[target],
                "target_right": report.target == target,
                "flagged": report.verdict == "backdoored",
            }
        )
    return rows


def by_rho(table):
    return soda.means(table, ["data", "offset", "rho"], ["acc", "sr", "index_true", "target_right", "flagged"])


if __name__ == "__main__":
    options = soda.arguments(QUESTION, "25")
    table = study.run(soda.cells_of(options.pairs, ("oversampled",), rho=RHO), measure, options.out, options.n_jobs)
    summary = by_rho(table)
    study.write_table(table, options.tables, "soda_adaptive")
    study.write_table(summary, options.tables, "soda_adaptive_mean", digits=3)
    print(soda.markdown(summary))
