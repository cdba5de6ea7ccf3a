"""Do the neurons that causality names carry the backdoor, and does influence name them as well?"""

# %% Question
import numpy as np
import soda_study as soda
import study
import torch

import learningcurves as lc
from learningcurves.defences.class_samples import class_samples
from learningcurves.defences.soda_neurons import SCORES, feasibility, neuron_scores
from learningcurves.defences.tail import make_tail

QUESTION = __doc__
THRESHOLDS = (1.0, 2.0)  # the published code has 1 for the attribution, 1 or 2 for the activations


# %% Cells: a backdoored network; one row a score and threshold
def measure(cell):
    network = soda.network_of(cell)
    victim, target = soda.pair_of(cell["data"], cell["seed"])
    clean = soda.clean_part(cell["data"], cell["seed"])
    problem = soda.attack(cell["data"], "flip", cell["seed"])
    infected = torch.tensor(problem.X_triggered.reshape(-1, *problem.image_shape), dtype=torch.float32)
    samples = class_samples(network, clean)
    tail, report = make_tail(network, samples.X), lc.detect_soda(network, clean)
    rows = []
    for score in SCORES:
        values = neuron_scores(tail, samples, report, victim, target, score=score)
        for threshold in THRESHOLDS:
            found = feasibility(tail, infected, samples.of_class(victim), values, threshold=threshold)
            rows.append(
                {
                    "score": score,
                    "threshold": threshold,
                    "guilty_share": found.guilty_share,
                    "benign_share": found.benign_share,
                    "chance": found.chance,
                    "n_guilty": len(found.guilty),
                    "n_benign": len(found.benign),
                    "n_named": len(found.named),
                }
            )
    return rows


def by_score(table):
    columns = ["guilty_share", "benign_share", "chance", "n_guilty", "n_benign", "n_named"]
    found = table.groupby(["data", "kind", "score", "threshold"], sort=False)[columns].mean()
    found["networks_with_guilty"] = table.groupby(
        ["data", "kind", "score", "threshold"], sort=False
    ).guilty_share.count()
    return found.reset_index()


def finding(summary):
    return [
        f"{r.data}, {r.kind}, {r.score} at {r.threshold:g}: {r.guilty_share:.2f} of the guilty and {r.benign_share:.2f} of the "
        f"benign neurons named, {r.chance:.2f} by chance"
        for r in summary.itertuples()
        if np.isfinite(r.guilty_share)
    ]


if __name__ == "__main__":
    options = soda.arguments(QUESTION, "22", data=("digits-thick", "mnist-colour", "gtsrb-dark", "cifar10-kind"))
    cells = soda.cells_of(options.pairs, ("oversampled", "flip"))
    table = study.run(cells, measure, options.out, options.n_jobs)
    summary = by_score(table)
    study.write_table(table, options.tables, "soda_neurons")
    study.write_table(summary, options.tables, "soda_neurons_by_score", digits=3)
    print(*finding(summary), sep="\n")
