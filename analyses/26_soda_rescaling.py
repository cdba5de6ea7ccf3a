"""How far does a rescaling of neurons, which changes no output, move SODA's index?"""

# %% Question
import numpy as np
import soda_study as soda
import study
import torch

import learningcurves as lc
from learningcurves.defences.soda_adaptive import rescale_neurons
from learningcurves.streams import generator

QUESTION = __doc__
DRAWS = 20


# %% Cells: a network; random factors of all neurons (log-normal), and of one neuron alone
def measure(cell):
    network = soda.network_of(cell)
    _, target = soda.pair_of(cell["data"], cell["seed"])
    clean = soda.clean_part(cell["data"], cell["seed"])
    X = torch.tensor(clean[0][:32], dtype=torch.float32)
    n = len(lc.detect_soda(network, clean).offset)
    rows = []
    for draw in range(DRAWS):
        for how in ("none", "all", "one"):
            if how == "none" and draw:
                continue
            draws = generator(cell["seed"], use="rescaling", draw=draw)
            scales = np.exp(draws.normal(size=n)) if how == "all" else np.ones(n)
            if how == "one":
                scales[draws.integers(n)] = 0.05
            moved = rescale_neurons(network, X, scales)
            with torch.no_grad():
                change = float((moved(X) - network(X)).abs().max())
            for offset in ("constant", "spread"):
                report = lc.detect_soda(moved, clean, offset=offset)
                rows.append(
                    {
                        "draw": draw,
                        "how": how,
                        "offset": offset,
                        "output_change": change,
                        "index_true": report.index[target],
                        "index": report.index[report.target],
                        "target_right": report.target == target,
                        "flagged": report.verdict == "backdoored",
                    }
                )
    return rows


def spread(table):
    groups = table.groupby(["data", "kind", "seed", "offset", "how"], sort=False)
    found = groups["index_true"].agg(["min", "median", "max"]).add_prefix("index_true_")
    found["target_right"], found["flagged"] = groups.target_right.mean(), groups.flagged.mean()
    found["output_change"] = groups.output_change.max()
    return found.reset_index()


if __name__ == "__main__":
    options = soda.arguments(QUESTION, "26", data=("digits-thick", "mnist-colour", "gtsrb-dark", "cifar10-kind"))
    table = study.run(soda.cells_of(options.pairs, ("oversampled", "clean")), measure, options.out, options.n_jobs)
    summary = spread(table)
    study.write_table(table, options.tables, "soda_rescaling")
    study.write_table(summary, options.tables, "soda_rescaling_spread", digits=3)
    print(soda.markdown(summary))
