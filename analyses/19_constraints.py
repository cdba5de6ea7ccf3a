"""What do the published constraint sets say, how often do real labels break them, and what was fed to the circuit?"""

# %% Question
import argparse
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import study

import learningcurves as lc
from learningcurves.data import readers
from learningcurves.storage import write_atomic

QUESTION = __doc__
SETS = ("base", "targetless", "target_focused")
PARTITIONS = {"train": (0, 162_770), "validation": (162_770, 182_637), "test": (182_637, 202_599), "all": (0, 202_599)}
BEGIN, END = "<!-- audit: written by analyses/19_constraints.py -->", "<!-- end of the audit -->"
PLACE = study.HERE.parent / "docs" / "semantic-loss.md"
BATCH, TARGET = 64, "Mustache"


# %% Data
def attribute_table(root=None):
    """Names of the forty attributes and the labels of all images, boolean (202599, 40)."""
    folder = readers.find_folder("celeba", ("celeba", ""), lambda place: (place / "attributes.npz").is_file(), root)
    with np.load(folder / "attributes.npz") as table:
        names = [str(name) for name in table["names"]]
        return names, np.unpackbits(table["attr_bits"], axis=1)[:, : len(names)].astype(bool)


def in_names(text, names):
    """A line with the attributes' names in place of X0.8."""
    return re.sub(r"X0\.(\d+)", lambda found: names[int(found[1])], text)


# %% Audit
def audits(rules, names, labels):
    """A row a set: what it allows, and how many label vectors of each partition satisfy it; and its lines."""
    rows, lines = [], []
    for name in SETS:
        path = rules / f"{name}.txt"
        constraints = lc.load_constraints(path, names=names)
        audit = lc.audit_constraints(constraints, labels[slice(*PARTITIONS["train"])])
        loss = lc.SemanticLoss(constraints)
        rows.append(
            {
                "set": name,
                "lines": len(constraints.lines),
                "models": audit.n_models,
                "share": audit.share_of_models,
                "free": len(audit.free),
                "free_names": ", ".join(audit.free_names),
                "redundant": sum(audit.redundant),
                "needed": sum(audit.needed),
                "nodes": len(loss.circuit.nodes),
                "edges": loss.circuit.n_edges,
                "layers": max(loss.circuit.levels),
                **{part: constraints.satisfied(labels[slice(*rows_)]).mean() for part, rows_ in PARTITIONS.items()},
            }
        )
        worst = audit.to_frame().sort_values("violated", ascending=False).head(5)
        for row in worst.itertuples():
            lines.append({"set": name, "line": row.line, "rule": in_names(row.text, names), "violated": row.violated})
    return pd.DataFrame(rows), pd.DataFrame(lines)


# %% What the published computation read
def scrambled(names, batch=BATCH):
    """Facts of the windows [batch r, batch r + n): rows read as meant, entries never read, what stands for the target."""
    n, target = len(names), names.index(TARGET)
    sources = [[divmod(batch * r + c, n) for c in range(n)] for r in range(n)]  # (sample, attribute)
    meant = [row[0][0] for row in sources if all(attribute == c for c, (_, attribute) in enumerate(row))]
    read = Counter(entry for row in sources for entry in row)
    return {
        "batch": batch,
        "rows": n,
        "meant": len(meant),
        "meant_samples": ", ".join(map(str, meant)),
        "straddling": sum(row[0][0] != row[-1][0] for row in sources),
        "unread": 1 - len(read) / (batch * n),
        "as_target": ", ".join(sorted({names[row[target][1]] for row in sources})),
    }


# %% Words
def page(sets, lines, facts):
    head = ["set", "lines", "label vectors allowed", "share of 2^40", "free outputs", "implied lines", "lines needed"]
    allowed = [
        [r.set, r.lines, f"{r.models:,}", f"{r.share:.3g}", r.free, r.redundant, r.needed] for r in sets.itertuples()
    ]
    real = [[r.set, *(f"{getattr(r, part):.1%}" for part in PARTITIONS)] for r in sets.itertuples()]
    circuit = [[r.set, r.nodes, r.edges, r.layers] for r in sets.itertuples()]
    base = lines[lines.set == "base"]
    broken = [[f"`{r.rule}`", f"{r.violated:.1%}"] for r in base.itertuples()]
    free = "; ".join(f"{r.set}: {r.free_names}" for r in sets.itertuples() if r.free <= 12)
    return "\n\n".join(
        [
            BEGIN,
            "Written by `python analyses/19_constraints.py --rules FOLDER --tables analyses/tables` from the three sets of the "
            "thesis' Appendix B and CelebA's attribute table.",
            "How much each set allows, exactly. *Free*: flipping the output never changes whether the lines hold. *Implied*: "
            "by the other lines together. *Needed*: lines that say the same as all, none of them implied by the others.",
            table(head, allowed),
            f"Free outputs: {free}.",
            "Share of CelebA's labels that satisfy all lines, by official partition:",
            table(["set", *PARTITIONS], real),
            "The lines of the base set that the training labels break most often:",
            table(["line", "broken by"], broken),
            "Size of the circuits:",
            table(["set", "nodes", "edges", "layers"], circuit),
            f"What the published computation read of a batch of {facts['batch']}: {facts['rows']} windows, of which "
            f"{facts['meant']} (those of samples {facts['meant_samples']}) are a sample with every attribute in its place, "
            f"and {facts['straddling']} are parts of two samples. {facts['unread']:.1%} of the outputs are in no window. "
            f"In the place of {TARGET} stand {facts['as_target']}.",
            END,
        ]
    )


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows])


def main():
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument(
        "--rules", type=Path, required=True, help="folder of base.txt, targetless.txt, target_focused.txt"
    )
    parser.add_argument("--root", type=Path, default=None, help="data folder (default: LEARNINGCURVES_DATA)")
    parser.add_argument("--tables", type=Path, default=study.TABLES, help="folder of the tables")
    parser.add_argument("--page", type=Path, default=PLACE, help="document whose marked place is written")
    options = parser.parse_args()
    names, labels = attribute_table(options.root)
    sets, lines = audits(options.rules, names, labels)
    facts = scrambled(names)
    for name, frame in (("constraints", sets), ("constraint_windows", pd.DataFrame([facts]))):
        write_atomic(options.tables / f"{name}.csv", frame.to_csv(index=False).encode())
    text = options.page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    write_atomic(options.page, (before + page(sets, lines, facts) + rest.partition(END)[2]).encode())
    print(sets.drop(columns="free_names").T.to_string())
    print(lines.to_string())


# %% Finding
if __name__ == "__main__":
    main()
