"""Do BadNets, blend and clean-label on CIFAR-10, and pruning at alpha 0.2 and threshold 0.25, give the rates reported for all of CIFAR-10?"""

# %% Question
import attack_study as attacks
import defence_study as defences
import pandas as pd
import study

import learningcurves as lc

QUESTION = __doc__
THRESHOLD = 0.25
# A report on BadNets, Blend, Clean-Label and ANP: all of CIFAR-10, ResNet-18, 50 epochs; percent
REPORTED = {
    "badnets": {"acc": 91.46, "asr": 100.0, "acc_pruned": 92.13, "asr_pruned": 3.30},
    "blend": {"acc": 92.79, "asr": 100.0},
    "clean-label PGD": {"acc": 93.22, "asr": 89.24},
}


def cells_of(data_sets):
    return defences.cells_of(data_sets, REPORTED)


def measure(cell):
    """Train on the attack, prune at the reported threshold, and at the one that clean accuracy chooses."""
    problem, module, _ = defences.attacked(cell["data"], cell["attack"], cell["seed"])
    pruned = defences.pruned(cell["data"], cell["attack"], cell["seed"])
    shown = {"attacked": module, "pruned at 0.25": pruned.at(THRESHOLD), "pruned by clean accuracy": pruned.module}
    for name, network in shown.items():
        slope = lc.backdoor_slope(network, problem, reg=1.0).value
        yield {"network": name, **attacks.rates(network, problem), "slope": slope,
               "n_poison": problem.n_backdoor, "threshold": pruned.threshold}  # fmt: skip


def by_attack(table):
    rows = []
    for (data, attack, network), group in table.groupby(["data", "attack", "network"], sort=False):
        row = {"data": data, "attack": attack, "network": network, "seeds": len(group)}
        row |= {k: v for name in ("asr", "no_trigger", "acc", "ra") for k, v in attacks.pooled(group, name).items()}
        row |= attacks.least_and_most(group)
        known = REPORTED[attack]
        ending = {"attacked": "", "pruned at 0.25": "_pruned"}.get(network)
        for name in ("acc", "asr"):
            row[f"reported_{name}"] = (
                known.get(f"{name}{ending}", float("nan")) / 100 if ending is not None else float("nan")
            )
        rows.append({**row, "slope": group.slope.median(), "n_poison": int(group.n_poison.median())})
    return pd.DataFrame(rows)


def finding(summary):
    return [
        f"{row.data}, {row.attack}, {row.network}: ASR {row.asr:.3f} [{row.asr_low:.3f}, {row.asr_high:.3f}] "
        f"(single networks {row.asr_least:.3f} to {row.asr_most:.3f}), ACC {row.acc:.3f} "
        f"[{row.acc_low:.3f}, {row.acc_high:.3f}], RA {row.ra:.3f}"
        + (
            f"; reported for all of CIFAR-10: ASR {row.reported_asr:.4f}, ACC {row.reported_acc:.4f}"
            if row.data.startswith("cifar10") and row.reported_asr == row.reported_asr
            else ""
        )
        + "."
        for row in summary.itertuples()
    ]


if __name__ == "__main__":
    options = attacks.arguments(QUESTION, "13", data=("cifar10",))
    table = attacks.finished(study.run(cells_of(options.data), measure, options.out, options.n_jobs))
    summary = by_attack(table)
    study.write_table(table, options.tables, "cifar_networks", digits=4)
    study.write_table(summary, options.tables, "cifar", digits=4)
    print(*finding(summary), sep="\n")
