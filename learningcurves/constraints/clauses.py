"""Constraints as clauses. A clause is a pair of bit masks (positive, negative): some bit of the first or none of the second."""

from learningcurves.constraints.parser import Formula

MAX_CLAUSES = 64  # of one formula multiplied out; above it, parts get auxiliary variables

Clause = tuple[int, int]


def to_clauses(formulas, first_auxiliary: int) -> list[Clause]:
    """Return clauses that hold together if and only if all formulas do.

    Where multiplying out would exceed `MAX_CLAUSES`, a part is named by an auxiliary variable (numbered from
    `first_auxiliary`) that is *equivalent* to it: each model has exactly one extension, so counts and weights stay.
    """
    found: dict[Clause, None] = {}  # a set in order
    auxiliary = _Auxiliaries(first_auxiliary)
    for formula in formulas:
        found.update(dict.fromkeys(auxiliary.clauses(formula, True)))
    found.update(dict.fromkeys(auxiliary.definitions))
    return list(found)


class _Auxiliaries:
    def __init__(self, first):
        self.next = first
        self.definitions: list[Clause] = []  # hold always, whatever the formula around them says

    def clauses(self, formula: Formula, sign: bool) -> list[Clause]:
        """Return the clauses of a formula (sign True) or of its negation."""
        kind, *parts = formula
        if kind == "var":
            return [(1 << parts[0], 0) if sign else (0, 1 << parts[0])]
        if kind == "constant":
            return [] if parts[0] == sign else [(0, 0)]
        if kind == "not":
            return self.clauses(parts[0], not sign)
        signs = [not sign, sign] if kind == "implies" else [sign] * len(parts)
        found = [self.clauses(part, s) for part, s in zip(parts, signs, strict=True)]
        if (kind == "and") == sign:  # both of: and, not-or, not-implies
            return [clause for clauses in found for clause in clauses]
        return self.any_of(found)

    def any_of(self, alternatives):
        """Multiply out: at least one of the alternatives holds."""
        product = [(0, 0)]
        for clauses in sorted(alternatives, key=len):
            if len(clauses) > 1 and len(product) * len(clauses) > MAX_CLAUSES:
                clauses = self.define(clauses)
            product = [(p | q, n | m) for p, n in product for q, m in clauses]
            product = [clause for clause in product if not clause[0] & clause[1]]
        return list(dict.fromkeys(product))

    def define(self, clauses):
        """Return a new variable as a clause; its definition makes it equivalent to all of `clauses`."""
        name, each = self.new(), 0
        for positive, negative in clauses:
            one = self.new()  # equivalent to this clause
            self.definitions.append((positive, negative | one))
            self.definitions += [(one, bit) for bit in _bits(positive)] + [(one | bit, 0) for bit in _bits(negative)]
            self.definitions.append((one, name))
            each |= one
        self.definitions.append((name, each))
        return [(name, 0)]

    def new(self):
        self.next += 1
        return 1 << (self.next - 1)


def _bits(mask):
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit


def bit_numbers(mask: int) -> list[int]:
    """Return the positions of the bits that are set."""
    return [bit.bit_length() - 1 for bit in _bits(mask)]


def propagate(clauses, true: int = 0, false: int = 0):
    """Follow clauses of one literal until none is left.

    Parameters
    ----------
    clauses : iterable of clauses
    true, false : int
        Variables already set, as masks.

    Returns
    -------
    (true, false, clauses) or None
        What is set now and the clauses that are left over the other variables; None for a contradiction.
    """
    again = True
    while again:
        again, left = False, []
        for positive, negative in clauses:
            if positive & true or negative & false:
                continue
            positive &= ~false
            negative &= ~true
            either = positive | negative
            if not either:
                return None
            if not either & (either - 1):  # one literal
                true |= positive
                false |= negative
                again = True
            else:
                left.append((positive, negative))
        clauses = left[::-1]  # a chain of implications is followed in two passes, whichever way it is written
    return true, false, left


def without_redundant(clauses: list[Clause]) -> list[Clause]:
    """Drop long clauses that the others imply by propagation: they would tie independent parts together."""
    kept = list(clauses)
    for clause in sorted(clauses, key=lambda c: -(c[0] | c[1]).bit_count()):
        if (clause[0] | clause[1]).bit_count() < 3:
            break
        others = [c for c in kept if c != clause]
        if propagate(others, clause[1], clause[0]) is None:
            kept = others
    return kept


def components(clauses):
    """Split clauses into groups that share no variable."""
    groups: list[tuple[int, list[Clause]]] = []
    for clause in clauses:
        mask, members = clause[0] | clause[1], [clause]
        apart = []
        for other, theirs in groups:
            if other & mask:
                mask |= other
                if len(theirs) > len(members):
                    members, theirs = theirs, members
                members += theirs
            else:
                apart.append((other, theirs))
        groups = [*apart, (mask, members)]
    return [sorted(members) for _, members in groups]  # in order: propagation along a chain takes few passes
