"""The circuit: exact against enumeration, against published counts, against PySDD; contradictions named."""

import numpy as np
import pytest
from constraint_cases import PUBLISHED, SETS, as_text, every_label, formulas, models, published
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import learningcurves as lc
from learningcurves.constraints import clauses as clauses_module
from learningcurves.constraints.clauses import propagate, to_clauses, without_redundant
from learningcurves.constraints.compiler import compile_constraints
from learningcurves.errors import InvalidInput


def value(circuit, row):
    """Evaluate a circuit on one label vector with Python's sums and products: 1 for a model, 0 otherwise."""
    values = []

    def product(literals, parts):
        return all(row[abs(i) - 1] == (i > 0) for i in literals) * int(np.prod([values[k] for k in parts]))

    for node in circuit.nodes:
        values.append(sum(product(*p) for p in node))
    return product(*circuit.root)


def mentioned(circuit):
    """Outputs that each node mentions."""
    found = []
    for node in circuit.nodes:
        found.append(
            {abs(i) - 1 for literals, _ in node for i in literals}.union(*(found[k] for _, ps in node for k in ps))
        )
    return found


def check_circuit(text, n):
    labels = every_label(n)
    expected = lc.load_constraints(text).satisfied(labels)
    if not expected.any():
        with pytest.raises(InvalidInput, match="cannot be satisfied: line"):
            compile_constraints(lc.load_constraints(text))
        return
    circuit = compile_constraints(lc.load_constraints(text))
    # deterministic: a sum that were not would count a model twice
    assert [value(circuit, row) for row in labels] == expected.astype(int).tolist()
    assert circuit.count_models(n) == expected.sum()
    outputs = mentioned(circuit)
    for literals, parts in [p for node in circuit.nodes for p in node] + [circuit.root]:  # decomposable
        factors = [{abs(i) - 1 for i in literals}, *(outputs[k] for k in parts)]
        assert len(set().union(*factors)) == sum(map(len, factors))


@pytest.mark.parametrize("name", SETS)
def test_circuits_are_exact_deterministic_and_decomposable(name):
    check_circuit(SETS[name], 9)


@given(st.lists(formulas(5), min_size=1, max_size=4))
@settings(max_examples=150)
def test_random_constraints_compile_exactly(drawn):
    check_circuit("\n".join(map(as_text, drawn)), 5)


@given(st.lists(formulas(4), min_size=1, max_size=3), st.sampled_from([1, 2, 4]))
@settings(max_examples=80)
def test_auxiliary_variables_change_nothing(drawn, limit):
    text = "\n".join(map(as_text, drawn))
    before = clauses_module.MAX_CLAUSES
    clauses_module.MAX_CLAUSES = limit
    try:
        check_circuit(text, 4)
    finally:
        clauses_module.MAX_CLAUSES = before


def test_long_disjunctions_of_conjunctions_stay_small():
    text = " | ".join(f"(X{3 * i} & X{3 * i + 1} & X{3 * i + 2})" for i in range(12))  # 3^12 clauses multiplied out
    constraints = lc.load_constraints(text)
    assert len(to_clauses([constraints.lines[0].formula], 36)) < 500
    assert compile_constraints(constraints).count_models(36) == 8**12 - 7**12


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_of_the_published_sets(name):
    circuit = compile_constraints(lc.load_constraints(published(name)))
    assert circuit.count_models(40) == PUBLISHED[name]
    if name == "base":
        assert len(circuit.support) == 32 and circuit.count_models(40) == 180_108 << 8
    if name == "target_focused":
        assert circuit.count_models(40) == 0.28125 * 2**40


@pytest.mark.parametrize("n", [3, 40, 70])
def test_exactly_one_has_n_models(n):
    text = (
        " | ".join(f"X{i}" for i in range(n)) + "\n" + "\n".join(f"~(X{i} & X{j})" for i in range(n) for j in range(i))
    )
    circuit = compile_constraints(lc.load_constraints(text))
    assert circuit.count_models(n) == n
    assert max(circuit.levels) == 1  # a chain of decisions that each use the next one alone becomes one sum


def test_a_long_path_needs_no_deep_recursion():
    n = 250
    circuit = compile_constraints(lc.load_constraints("\n".join(f"X{i} >> X{i - 1}" for i in range(1, n))))
    assert circuit.count_models(n) == n + 1


def test_models_of_a_tree_by_recursion():
    n, parent = 60, [None, *(int(p) for p in np.random.default_rng(0).integers(0, np.arange(1, 60)))]
    circuit = compile_constraints(lc.load_constraints("\n".join(f"X{i} >> X{parent[i]}" for i in range(1, n))))
    counts = [1] * n  # closed sets below a node, with the node
    for i in range(n - 1, 0, -1):
        counts[parent[i]] *= 1 + counts[i]
    assert circuit.count_models(n) == 1 + counts[0]


def test_pysdd_counts_the_same():
    pysdd = pytest.importorskip("pysdd.sdd", reason="needs PySDD: pip install learningcurves[test]")
    rng = np.random.default_rng(1)
    texts = [SETS["nested"], SETS["parity"], *(random_clauses(rng, 12, 24) for _ in range(6))]
    for text in texts:
        n = 12
        clauses = to_clauses([line.formula for line in lc.load_constraints(text).lines], n)
        rows = [[i + 1 for i in range(n) if p >> i & 1] + [-i - 1 for i in range(n) if m >> i & 1] for p, m in clauses]
        manager = pysdd.SddManager(var_count=n)
        node = manager.true()
        for row in rows:
            clause = manager.false()
            for literal in row:
                clause = clause | manager.literal(literal)
            node = node & clause
        wmc = node.wmc(log_mode=False)
        expected = round(wmc.propagate())
        if expected:
            assert compile_constraints(lc.load_constraints(text)).count_models(n) == expected
        else:
            assert not len(models(text, n))


def random_clauses(rng, n, count):
    hidden = rng.random(n) < 0.5
    lines = []
    while len(lines) < count:
        i, j = rng.choice(n, 2, replace=False)
        sign = rng.random(2) < 0.5
        if (hidden[[i, j]] == sign).any():
            lines.append(" | ".join(("" if s else "~") + f"X{k}" for k, s in zip((i, j), sign, strict=True)))
    return "\n".join(lines)


CONTRADICTIONS = [
    ("X0\n\n~X0  # no", "lines 1, 3 contradict each other"),
    ("X5 | X6\nX0 & ~X0", "line 2 contradicts itself"),
    ("X7\nX0 | X1\nX0 >> X2\nX1 >> X2\nX4 >> X5\n~X2\nX1", "lines 2, 3, 4, 6 contradict each other"),
    (
        "\n".join(f"{a}X0 | {b}X1 | {c}X2" for a in ("", "~") for b in ("", "~") for c in ("", "~")),
        "lines 1, 2, 3, 4, 5, 6, 7, 8",
    ),
]


@pytest.mark.parametrize(("text", "message"), CONTRADICTIONS)
def test_contradictions_name_their_lines(text, message):
    with pytest.raises(InvalidInput, match="cannot be satisfied: " + message):
        compile_constraints(lc.load_constraints(text))


@given(st.lists(formulas(4), min_size=2, max_size=6))
@settings(max_examples=60)
def test_a_named_contradiction_is_one_and_minimal(drawn):
    from learningcurves.constraints.conflict import conflicting_lines

    constraints = lc.load_constraints("\n".join(map(as_text, drawn)))
    labels = every_label(4)
    assume(not constraints.satisfied(labels).any())
    lines = conflicting_lines(constraints)
    assert not lc.Constraints(tuple(lines)).satisfied(labels).any()
    for line in lines:
        rest = tuple(other for other in lines if other is not line)
        assert not rest or lc.Constraints(rest).satisfied(labels).any()


def test_propagation_and_redundant_clauses():
    assert propagate([(1, 0), (2, 1), (4, 2)]) == (7, 0, [])
    assert propagate([(1, 0), (0, 1)]) is None
    assert without_redundant([(0b111, 0), (0b001, 0)]) == [(0b001, 0)]
