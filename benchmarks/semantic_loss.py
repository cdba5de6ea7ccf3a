"""The semantic loss, forward and backward, against KLay and PySDD's own evaluation; compile time; growth.

    python benchmarks/semantic_loss.py --rules BASE.txt --python ENV/bin/python
    python benchmarks/semantic_loss.py --rules BASE.txt --python ENV/bin/python --growth

One thread, float32, mean over the batch of -log P and its gradient in the logits. All methods get the same clauses and
logits. KLay evaluates the circuit that PySDD compiles (balanced vtree), in log space, not compiled by torch (which takes
minutes and gains nothing on a CPU). PySDD evaluates a sample at a time, value and literal derivatives; where the batch is
large, 64 samples are timed and scaled. "Difference": largest absolute difference of the gradients from ours. ENV holds
this package's requirements, torch, klaycircuits and pysdd.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import measure
import numpy as np

METHODS = ("ours", "klay", "pysdd")
BATCHES = (64, 4096)
SAMPLED = 64  # PySDD samples timed of a larger batch
LIMIT = 300  # seconds a child may take


def label_tree(n, seed=0):
    """A random tree of labels: each implies its parent."""
    rng = random.Random(seed)
    return "\n".join(f"X{i} >> X{rng.randrange(i)}" for i in range(1, n))


def exactly_one(n):
    """One of n labels, as a disjunction and all pairs."""
    pairs = [f"~(X{i} & X{j})" for i in range(n) for j in range(i)]
    return "\n".join([" | ".join(f"X{i}" for i in range(n)), *pairs])


def random_clauses(n, count, kind, seed=0):
    """Distinct random clauses of two literals: exclusions, or any signs that one hidden assignment satisfies."""
    rng = random.Random(seed)
    hidden = [rng.random() < 0.5 for _ in range(n)]
    lines: dict[str, None] = {}
    while len(lines) < count:
        i, j = sorted(rng.sample(range(n), 2))
        signs = (False, False) if kind == "exclusions" else (rng.random() < 0.5, rng.random() < 0.5)
        if kind == "exclusions" or signs[0] == hidden[i] or signs[1] == hidden[j]:
            lines[" | ".join(("" if s else "~") + f"X{k}" for s, k in zip(signs, (i, j), strict=True))] = None
    return "\n".join(lines)


GROWTH = {
    "tree of 40 labels": lambda: label_tree(40),
    "tree of 200 labels": lambda: label_tree(200),
    "tree of 1000 labels": lambda: label_tree(1000),
    "exactly one of 40": lambda: exactly_one(40),
    "exactly one of 100": lambda: exactly_one(100),
    "120 random exclusions of 40": lambda: random_clauses(40, 120, "exclusions"),
    "120 random 2-clauses of 40": lambda: random_clauses(40, 120, "any"),
}


def logits_of(batch, n):
    """The same logits for every method."""
    return np.random.default_rng(batch).normal(scale=2.0, size=(batch, n)).astype(np.float32)


def repeated(function, clock, name, at_least=0.5):
    """Time one call: the least of several groups of calls, in seconds of CPU and wall."""
    function()
    once = time.perf_counter()
    function()
    calls = max(1, int(0.1 / max(time.perf_counter() - once, 1e-6)))
    best, started = None, time.perf_counter()
    while best is None or time.perf_counter() - started < at_least:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            function()
        spent = (time.process_time() - cpu) / calls, (time.perf_counter() - wall) / calls
        best = spent if best is None else min(best, spent)
    clock.parts[name] = {"cpu": best[0], "wall": best[1]}


def child(method, rules, n):
    """Compile one set with one method, and time it at every batch size; prints what it measured."""
    from learningcurves.constraints.clauses import to_clauses
    from learningcurves.constraints.notation import load_constraints

    constraints = load_constraints(rules)
    clauses = to_clauses([line.formula for line in constraints.lines], n)
    clock, facts = measure.Clock(), {}
    evaluate = {"ours": ours, "klay": klay, "pysdd": pysdd}[method](constraints, clauses, n, clock, facts)
    for batch in BATCHES:
        scale = 1
        rows = batch
        if method == "pysdd" and batch > SAMPLED:
            rows, scale = SAMPLED, batch / SAMPLED
        z = logits_of(batch, n)[:rows]
        repeated(lambda z=z: evaluate(z), clock, f"B={batch}")
        for unit in ("cpu", "wall"):
            clock.parts[f"B={batch}"][unit] *= scale
    value, gradient = evaluate(logits_of(BATCHES[0], n))
    facts |= {"value": value, "gradient": np.asarray(gradient, dtype=float).round(9).tolist()}
    measure.report(clock, **facts)


def ours(constraints, clauses, n, clock, facts):
    """Return the loss of this package."""
    import torch

    from learningcurves.constraints.semantic_loss import SemanticLoss

    torch.set_num_threads(1)
    with clock.timed("compile"):
        loss = SemanticLoss(constraints)
    facts["size"] = (
        f"{len(loss.circuit.nodes)} nodes, {loss.circuit.n_edges} edges, {max(loss.circuit.levels, default=0)} layers"
    )

    def evaluate(z):
        z = torch.from_numpy(z).requires_grad_()
        value = loss(z)
        value.backward()
        return value.item(), z.grad.numpy()

    return evaluate


def compile_sdd(clauses, n, clock, facts):
    """Compile clauses with PySDD, which prints while it works."""
    from pysdd.sdd import SddManager

    rows = [
        [i + 1 for i in range(n) if positive >> i & 1] + [-i - 1 for i in range(n) if negative >> i & 1]
        for positive, negative in clauses
    ]
    text = f"p cnf {n} {len(rows)}\n" + "\n".join(" ".join(map(str, [*row, 0])) for row in rows) + "\n"
    with silent(), clock.timed("compile"):
        manager, node = SddManager.from_cnf_string(text, vtree_type=b"balanced")
    facts["size"] = f"SDD size {node.size()}"
    return manager, node


def klay(constraints, clauses, n, clock, facts):
    """KLay's torch module of PySDD's circuit."""
    import torch
    from klay import Circuit

    torch.set_num_threads(1)
    manager, node = compile_sdd(clauses, n, clock, facts)
    with clock.timed("compile"):
        circuit = Circuit()
        circuit.add_sdd(node)
        module = circuit.to_torch_module(semiring="log", compile=False)
    facts["size"] += f", {len(module.layers)} layers"

    def evaluate(z):
        z = torch.from_numpy(z).requires_grad_()
        log_p = torch.nn.functional.logsigmoid(z)
        log_not_p = torch.nn.functional.logsigmoid(-z)
        value = -module(log_p, log_not_p).mean()
        value.backward()
        return value.item(), z.grad.numpy()

    return evaluate


def pysdd(constraints, clauses, n, clock, facts):
    """PySDD's weighted model counting, a sample at a time, with the derivatives of all literals."""
    manager, node = compile_sdd(clauses, n, clock, facts)
    counter = node.wmc(log_mode=True)

    def evaluate(z):
        z = z.astype(float)
        log_p, log_not_p = -np.logaddexp(0, -z), -np.logaddexp(0, z)
        values, gradient = np.empty(len(z)), np.empty_like(z)
        for row in range(len(z)):
            weights = np.concatenate([log_not_p[row, ::-1], log_p[row]])  # literals -n ... -1, 1 ... n
            counter.set_literal_weights_from_array(weights)
            values[row] = counter.propagate()
            # derivatives are with respect to weights, in log space
            plus = np.array([counter.literal_derivative(manager.literal(i + 1)) for i in range(n)])
            minus = np.array([counter.literal_derivative(manager.literal(-i - 1)) for i in range(n)])
            q = np.exp(plus + log_p[row] - values[row])
            not_q = np.exp(minus + log_not_p[row] - values[row])
            p = np.exp(log_p[row])
            gradient[row] = not_q * p - q * (1 - p)
        return -values.mean(), gradient / len(z)

    return evaluate


@contextlib.contextmanager
def silent():
    """Send what a C library prints to nowhere."""
    sys.stdout.flush()
    keep, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(keep, 1)
        os.close(nowhere)
        os.close(keep)


def compare(cases, python, repeats):
    """Run all methods on all cases in turn; return the rows of the table."""
    rows = []
    for name, (rules, n) in cases.items():
        found = {}
        for method in METHODS:
            try:
                results = [
                    measure.run(__file__, [method, "--rules", rules, "--n", n], timeout=LIMIT, python=python)
                    for _ in range(repeats)
                ]
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                why = f"more than {LIMIT} s" if isinstance(error, subprocess.TimeoutExpired) else "failed"
                print(f"{name}, {method}: {why}\n{str(error)[-300:]}", file=sys.stderr)
                rows.append([name, method, why] + [""] * 6)
                continue
            parts = results[0]["parts"]
            best = {part: min(r["parts"][part]["cpu"] for r in results) for part in parts}
            found[method] = results[0] | {"best": best}
            rows.append(row_of(name, method, found))
    return rows


def row_of(name, method, found):
    """One row: compile time, size, times, ratios to ours, agreement."""
    result = found[method]
    own = found.get("ours")
    cells = [name, method, f"{result['best']['compile']:.3f}", result["size"]]
    for batch in BATCHES:
        spent = result["best"][f"B={batch}"]
        ratio = f" ({spent / own['best'][f'B={batch}']:.1f}x)" if own and method != "ours" else ""
        cells.append(f"{1e3 * spent:.3g}{ratio}")
    if own and method != "ours":
        difference = np.abs(np.array(result["gradient"]) - np.array(own["gradient"])).max()
        cells.append(f"{difference:.0e}")
    else:
        cells.append("")
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--rules", help="file with the base set of 40 attributes")
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--growth", action="store_true", help="trees, exactly-one and random clauses")
    parser.add_argument("--python", default=sys.executable, help="an environment with torch, klaycircuits and pysdd")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    if args.child:
        return child(args.child, args.rules, args.n)
    cases = {"base set": (args.rules, 40)} if args.rules else {}
    if args.growth:
        for name, make in GROWTH.items():
            text = make()
            cases[name] = (
                text,
                1
                + max(
                    int(word[1:])
                    for word in text.replace("~", " ").replace("(", " ").replace(")", " ").split()
                    if word[0] == "X"
                ),
            )
    header = ("set", "method", "compile CPU s", "size", *(f"B = {b}, ms" for b in BATCHES), "difference")
    rows = compare(cases, args.python, args.repeats)
    print(measure.machine(), "\n")
    print(measure.table(header, rows))
    if args.json:
        args.json.write_text(json.dumps([dict(zip(header, row, strict=False)) for row in rows], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
