"""Does it matter which layer SODA looks at, and what does the closed form save?"""

# %% Question
import soda_study as soda
import study

import learningcurves as lc

QUESTION = __doc__
LAYERS = ("last", "blocks", "blocks.1", "blocks.0")  # neurons before the head, before the average, and further back
N_CLEAN = 10  # samples a class: interventions on early layers are many


# %% Cells: a network and a layer
def measure(cell):
    network = soda.network_of(cell)
    victim, target = soda.pair_of(cell["data"], cell["seed"])
    X, y = soda.clean_part(cell["data"], cell["seed"])
    rows = [i for c in range(10) for i in (y == c).nonzero()[0][:N_CLEAN]]
    report = lc.detect_soda(network, (X[rows], y[rows]), layer=cell["layer"])
    return [
        {
            "neurons": len(report.offset),
            "method": report.method,
            "index": report.index[report.target],
            "index_true": report.index[target],
            "target_right": report.target == target,
            "flagged": report.verdict == "backdoored",
            "seconds": report.seconds,
        }
    ]


def by_layer(table):
    groups = table.groupby(["data", "kind", "layer"], sort=False)
    found = groups[["neurons", "index", "index_true", "target_right", "flagged"]].mean()
    found["neurons"] = found["neurons"].astype(int)  # the same in all networks of a group
    found["seconds"] = groups.seconds.median()  # the first call of a process loads libraries
    found["method"], found["networks"] = groups.method.first(), groups.seed.nunique()
    return found.reset_index()


if __name__ == "__main__":
    options = soda.arguments(QUESTION, "23", data=("digits-thick", "mnist-colour"))
    cells = soda.cells_of(options.pairs, ("oversampled", "clean"), layer=LAYERS)
    table = study.run(cells, measure, options.out, options.n_jobs)
    summary = by_layer(table)
    study.write_table(table, options.tables, "soda_layers")
    study.write_table(summary, options.tables, "soda_layers_mean", digits=3)
    print(soda.markdown(summary))
