r"""Compile constraints into a circuit: a deterministic, decomposable sum of products (d-DNNF).

A node is a sum of products; a product multiplies literals and other nodes. *Decomposable*: the factors of a product
share no output. *Deterministic*: the products of a sum exclude each other. So the probability of the constraints
under independent outputs is read off bottom up [1]_. Nodes need not be *smooth* (mention the same outputs in each
product): since p + (1 - p) = 1, an output that a product leaves free contributes a factor 1.

The compiler decides an output, follows the forced ones, splits what is left into independent components and remembers
the components that it has seen [2]_. Then nodes absorb others where that makes the circuit flatter without making it
larger: the fewer layers, the fewer calls of torch.

.. [1] Darwiche, "A differential approach to inference in Bayesian networks", JACM 2003.
.. [2] Huang and Darwiche, "DPLL with a trace: from SAT to knowledge compilation", IJCAI 2005.
"""

import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass

from learningcurves.constraints.clauses import Clause, bit_numbers, components, propagate, to_clauses, without_redundant
from learningcurves.constraints.conflict import conflicting_lines
from learningcurves.constraints.notation import Constraints
from learningcurves.constraints.parser import shortened
from learningcurves.errors import InvalidInput

LOOK_AHEAD_CLAUSES = 1_000  # above that many clauses, the decision is by the number of occurrences alone
LOOK_AHEAD_OUTPUTS = 8

Product = tuple[frozenset[int], tuple[int, ...]]  # literals (i + 1, or -(i + 1) negated), numbers of nodes


@dataclass(frozen=True)
class Circuit:
    """Sums of products, over outputs numbered from 0.

    `nodes[k]` is a tuple of products, the nodes in them numbered below k; `root` is one product.
    """

    nodes: tuple[tuple[Product, ...], ...]
    root: Product

    @property
    def support(self) -> tuple[int, ...]:
        """Outputs that occur, sorted."""
        products = [*(product for node in self.nodes for product in node), self.root]
        return tuple(sorted({abs(literal) - 1 for literals, _ in products for literal in literals}))

    @property
    def n_edges(self) -> int:
        """Number of factors of all products."""
        products = [*(product for node in self.nodes for product in node), self.root]
        return sum(len(literals) + len(parts) for literals, parts in products)

    @property
    def levels(self) -> list[int]:
        """Layer of each node: 1 where its products hold literals only."""
        levels: list[int] = []
        for node in self.nodes:
            levels.append(1 + max((levels[k] for _, parts in node for k in parts), default=0))
        return levels

    def count_models(self, n_variables: int) -> int:
        """Return the exact number of the 2^n_variables label vectors that satisfy the constraints."""
        counts: list[tuple[int, frozenset[int]]] = []  # models of a node over the outputs that it mentions

        def product(literals, parts):
            models, mentioned = 1, {abs(literal) for literal in literals}
            for k in parts:
                models *= counts[k][0]
                mentioned |= counts[k][1]
            return models, mentioned

        for node in self.nodes:
            products = [product(*p) for p in node]
            mentioned = frozenset().union(*(outputs for _, outputs in products))
            counts.append((sum(models << len(mentioned - outputs) for models, outputs in products), mentioned))
        models, mentioned = product(*self.root)
        return models << (n_variables - len(mentioned))


def compile_constraints(constraints: Constraints) -> Circuit:
    """Return the circuit of constraints that can hold together.

    Raises
    ------
    InvalidInput
        If no label vector satisfies them; the message names lines that contradict each other, none of them without
        the others.
    """
    n = max(constraints.support) + 1
    clauses = to_clauses([line.formula for line in constraints.lines], first_auxiliary=n)
    circuit = compile_clauses(without_redundant(clauses), n)
    if circuit is None:
        lines = conflicting_lines(constraints)
        numbers = ", ".join(str(line.number) for line in lines)
        told = "; ".join(f"{line.number}: {shortened(line.text)}" for line in lines[:5])
        what = f"line {numbers} contradicts itself" if len(lines) == 1 else f"lines {numbers} contradict each other"
        raise InvalidInput(f"the constraints cannot be satisfied: {what} ({told}). Remove or correct one of them.")
    return circuit


def compile_clauses(clauses: list[Clause], n_variables: int) -> Circuit | None:
    """Return the circuit of clauses, or None if they contradict each other.

    Variables from `n_variables` on are auxiliary: determined by the others, so they have weight 1 and are left out.
    """
    compiler = _Compiler((1 << n_variables) - 1)
    with _deep_recursion(8 * max((c[0] | c[1]).bit_length() for c in clauses) + 1_000 if clauses else 1_000):
        root = compiler.product(clauses)
    return None if root is None else _flattened(compiler.nodes, root)


@contextmanager
def _deep_recursion(limit):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, limit))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class _Compiler:
    def __init__(self, outputs):
        self.outputs = outputs  # mask
        self.nodes: list[tuple[Product, ...]] = []
        self.seen: dict[frozenset[Clause], int | None] = {}

    def product(self, clauses, true=0, false=0) -> Product | None:
        """Follow forced variables, and compile the independent parts of the rest."""
        found = propagate(clauses, true, false)
        if found is None:
            return None
        true, false, left = found
        positive, negative = bit_numbers(true & self.outputs), bit_numbers(false & self.outputs)
        literals, parts = frozenset([i + 1 for i in positive] + [-i - 1 for i in negative]), ()
        for part in components(left):
            node = self.node(part)
            if node is None:
                return None
            only = self.nodes[node] if len(self.nodes[node]) == 1 else ((frozenset(), (node,)),)
            literals, parts = literals | only[0][0], parts + only[0][1]
        return literals, parts

    def node(self, clauses) -> int | None:
        """Decide a variable of connected clauses; the number of the node, or None for a contradiction."""
        key = frozenset(clauses)
        if key not in self.seen:
            bit = _decision(clauses)
            products = (self.product(clauses, bit, 0), self.product(clauses, 0, bit))
            products = tuple(p for p in products if p is not None)
            self.seen[key] = len(self.nodes) if products else None
            if products:
                self.nodes.append(products)
        return self.seen[key]


def _decision(clauses) -> int:
    """Return the variable, as a mask, whose decision leaves the smallest components; ties go to short clauses."""
    weights: Counter[int] = Counter()
    for positive, negative in clauses:
        mask = positive | negative
        weight = 2.0 ** -mask.bit_count()
        for i in bit_numbers(mask):
            weights[i] += weight
    ranked = sorted(weights, key=lambda i: (-weights[i], i))
    if len(clauses) > LOOK_AHEAD_CLAUSES:
        return 1 << ranked[0]
    return 1 << min(ranked[:LOOK_AHEAD_OUTPUTS], key=lambda i: _largest_left(clauses, 1 << i))


def _largest_left(clauses, bit) -> int:
    """Return the number of variables of the largest component after deciding `bit`, the worse of both ways."""
    worst = 0
    for found in (propagate(clauses, bit, 0), propagate(clauses, 0, bit)):
        for part in components(found[2]) if found else ():
            mask = 0
            for positive, negative in part:
                mask |= positive | negative
            worst = max(worst, mask.bit_count())
    return worst


def _flattened(nodes, root: Product) -> Circuit:
    """Let nodes absorb those below them; drop nodes that nothing uses any more."""
    uses = Counter(k for node in [*nodes, (root,)] for _, parts in node for k in parts)
    flat: list[tuple[Product, ...]] = []
    levels: list[int] = []
    for node in nodes:
        flat.append(_absorb(node, flat, levels, uses))
        levels.append(1 + _level(flat[-1], levels))
    return _renumbered(flat, root)


def _level(products, levels):
    return max((levels[k] for _, parts in products for k in parts), default=0)


def _absorb(products, flat, levels, uses):
    """Multiply the deepest nodes into a node's products while the circuit gets no more products by it."""
    while top := _level(products, levels):
        deepest = {k for _, parts in products for k in parts if levels[k] == top}
        most = len(products) + sum(len(flat[k]) for k in deepest if uses[k] == 1)  # the last are used here alone
        wider: list[Product] = []
        for literals, parts in products:
            expanded = [(literals, tuple(k for k in parts if k not in deepest))]
            for k in deepest.intersection(parts):
                expanded = [(ls | more, ks + below) for ls, ks in expanded for more, below in flat[k]]
                if len(wider) + len(expanded) > most:
                    return products
            wider += expanded
        products = tuple(wider)
    return products


def _renumbered(flat, root) -> Circuit:
    used, waiting = set(), list(root[1])
    while waiting:
        k = waiting.pop()
        if k not in used:
            used.add(k)
            waiting += [below for _, parts in flat[k] for below in parts]
    number = {k: i for i, k in enumerate(sorted(used))}

    def renumber(product):
        return product[0], tuple(number[k] for k in product[1])

    return Circuit(tuple(tuple(map(renumber, flat[k])) for k in sorted(used)), renumber(root))
