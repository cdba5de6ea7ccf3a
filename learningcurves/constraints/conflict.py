"""Questions of satisfiability: which lines contradict each other, and which are implied by the others."""

from learningcurves.constraints.clauses import Clause, propagate, to_clauses
from learningcurves.constraints.notation import Constraints, Line


def satisfiable(clauses: list[Clause], true: int = 0, false: int = 0) -> bool:
    """Return whether clauses can hold together once `true` and `false` (masks) are set."""
    waiting = [(clauses, true, false)]
    while waiting:
        found = propagate(*waiting.pop())
        if found is None:
            continue
        left = found[2]
        if all(negative for _, negative in left) or all(positive for positive, _ in left):
            return True  # the rest all false, or all true
        positive, negative = min(left, key=lambda clause: (clause[0] | clause[1]).bit_count())
        bit = (positive | negative) & -(positive | negative)
        waiting += [(left, bit, 0), (left, 0, bit)]
    return False


def conflicting_lines(constraints: Constraints) -> list[Line]:
    """Return lines that cannot hold together, though they can without any one of them."""
    n = max(constraints.support) + 1

    def contradict(lines):
        return not satisfiable(to_clauses([line.formula for line in lines], n))

    low, high = 1, len(constraints.lines)  # the smallest k for which the first k lines contradict each other
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if contradict(constraints.lines[:middle]) else (middle + 1, high)
    lines = list(constraints.lines[:low])
    for line in lines[:]:
        without = [other for other in lines if other is not line]
        if without and contradict(without):
            lines = without
    return lines


def redundant_lines(constraints: Constraints) -> list[bool]:
    """Return for each line whether the other lines imply it. Two lines may each be implied by the other."""
    sets, unused = _clauses_of_lines(constraints)
    return [_implied(line, _joined(sets, k), unused) for k, line in enumerate(constraints.lines)]


def needed_lines(constraints: Constraints, redundant: list[bool]) -> list[bool]:
    """Return lines that together say the same, none of which the others imply: dropped from the last one up."""
    sets, unused = _clauses_of_lines(constraints)
    needed = [True] * len(sets)
    for k in reversed(range(len(sets))):
        if redundant[k] and _implied(constraints.lines[k], _joined(sets, k), unused):
            needed[k], sets[k] = False, []
    return needed


def _clauses_of_lines(constraints):
    """Return the clauses of each line, and the first variable that none of them uses."""
    unused, sets = max(constraints.support) + 1, []
    for line in constraints.lines:
        sets.append(to_clauses([line.formula], unused))
        unused = max([unused, *((positive | negative).bit_length() for positive, negative in sets[-1])])
    return sets, unused


def _joined(sets, without):
    return [clause for k, clauses in enumerate(sets) if k != without for clause in clauses]


def _implied(line, others, unused):
    return not satisfiable(to_clauses([("not", line.formula)], unused) + others)


def free_outputs(constraints: Constraints, n_variables: int) -> list[int]:
    """Return the outputs that the constraints say nothing about: flipping one never changes whether they hold."""
    n = max(constraints.support) + 1
    clauses = to_clauses([line.formula for line in constraints.lines], n)
    support = set(constraints.support)
    return [i for i in range(n_variables) if i not in support or not _matters(constraints, clauses, i, n)]


def _matters(constraints, clauses, output, n) -> bool:
    bit = 1 << output
    for positive, negative in clauses:
        if (positive | negative) & bit and (positive | negative) >> n == 0:
            # a model that satisfies this clause by `output` alone breaks it when flipped
            if satisfiable(clauses, negative & ~bit, positive & ~bit):
                return True
    if all((positive | negative) >> n == 0 for positive, negative in clauses):
        return False
    formula = ("and", *(line.formula for line in constraints.lines))
    one, zero = (_substitute(formula, output, ("constant", value)) for value in (True, False))
    return any(satisfiable(to_clauses([a, ("not", b)], n)) for a, b in ((one, zero), (zero, one)))


def _substitute(formula, output, value):
    if formula[0] == "var":
        return value if formula[1] == output else formula
    return (formula[0], *(_substitute(part, output, value) for part in formula[1:]))
