"""A formula: what it speaks of, where it holds, and how one line of the notation is read, evaluating nothing."""

import math
import re
from difflib import get_close_matches

import numpy as np

from learningcurves.errors import InvalidInput

MAX_DEPTH = 100  # of nested parentheses and negations
_TOKEN = re.compile(r"\s*(?:(?P<name>\w+(?:\.\w+)*|\w*(?:\.\w+)+)|(?P<op>>>|[~&|()])|(?P<bad>\S))")
_INDEXED = re.compile(r"X\.?(\d+(?:\.\d+)*)")
_SHAPE = re.compile(r"shape\s*\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]")

Formula = tuple  # ("var", i), ("not", f), ("and", f, ...), ("or", f, ...), ("implies", f, g)


def variables(formula: Formula) -> frozenset[int]:
    """Return the outputs that a formula speaks of."""
    if formula[0] == "var":
        return frozenset(formula[1:])
    return frozenset().union(*(variables(part) for part in formula[1:]))


def holds(formula: Formula, labels: np.ndarray) -> np.ndarray:
    """Return which rows of boolean `labels` (n, n_variables) satisfy a formula."""
    kind, *parts = formula
    if kind == "var":
        return labels[:, parts[0]]
    values = [holds(part, labels) for part in parts]
    if kind == "not":
        return ~values[0]
    if kind == "implies":
        return ~values[0] | values[1]
    return np.logical_and.reduce(values) if kind == "and" else np.logical_or.reduce(values)


def shortened(text: str, width: int = 90) -> str:
    """Return a text that fits a message."""
    return text if len(text) <= width else text[: width - 4] + " ..."


def read_shape(line, number, shape, late, n_variables) -> tuple[int, ...]:
    """Return the sizes that a shape line states; `shape` is that of an earlier one, `late` if constraints came before."""
    found = _SHAPE.fullmatch(line)
    if found is None or shape is not None or late:
        why = "is not of the form 'shape [1, 40]'" if found is None else "must be the only one, above all constraints"
        raise InvalidInput(f"line {number}: the shape line {why}: {line}")
    shape = tuple(int(size) for size in found[1].split(","))
    if math.prod(shape) < 1 or n_variables not in (None, math.prod(shape)):
        raise InvalidInput(
            f"line {number}: the shape {list(shape)} holds {math.prod(shape)} outputs"
            + (
                f", not the {n_variables} that were given. Correct one of them."
                if n_variables
                else ". Give at least one."
            )
        )
    return shape


def read_formula(line, number, names=None, shape=None, n_variables=None) -> Formula:
    """Return the formula of one line; `names`, `shape` and `n_variables` say which outputs there are, where known."""
    return _Reader(line, number, names, shape, n_variables).formula()


class _Reader:
    """Reads one line: or > and > not, as in Python; >> stands alone or between parentheses."""

    def __init__(self, line, number, names, shape, n_variables):
        self.line, self.number = line, number
        self.index = {name: i for i, name in enumerate(names or ())}
        self.shape, self.n_variables = shape, n_variables
        self.tokens = [(m.lastgroup or "", m[m.lastgroup or 0]) for m in _TOKEN.finditer(line)]
        self.at = self.depth = 0

    def formula(self) -> Formula:
        formula = self.implication()
        if self.at < len(self.tokens):
            self.fail(f"{self.tokens[self.at][1]!r} was not expected{self.signs()}")
        return formula

    def fail(self, why):
        raise InvalidInput(f"line {self.number}: {why}: {shortened(self.line)}")

    def signs(self):
        """Return what to write, after something that is no sign of the notation."""
        known = self.tokens[self.at][0] == "op"
        return "" if known else "; the signs are ~ (not), & (and), | (or), >> (implies) and parentheses"

    def next_is(self, *signs):
        if self.at < len(self.tokens) and self.tokens[self.at][1] in signs:
            self.at += 1
            return self.tokens[self.at - 1][1]
        return None

    def implication(self):
        first = self.at
        left, bare = self.chain("|")
        if not self.next_is(">>"):
            return left
        right, bare_right = self.chain("|")
        if bare or bare_right or self.next_is(">>"):
            self.at = first  # Python binds >> before & and |, logicians after them
            self.fail("`>>` beside another operator is read in two ways. Put parentheses, as in (a & b) >> (c | d)")
        return "implies", left, right

    def chain(self, sign):
        """Read operands joined by one sign; also say whether there was more than one outside parentheses."""
        bare = False
        parts = []
        while True:
            if sign == "|":
                part, inner = self.chain("&")
                bare |= inner
            else:
                part = self.operand()
            parts.append(part)
            if not self.next_is(sign):
                break
            bare = True
        kind = "or" if sign == "|" else "and"
        return (parts[0] if len(parts) == 1 else (kind, *parts)), bare

    def operand(self):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"more than {MAX_DEPTH} nested parentheses and negations")
        if self.next_is("~"):
            formula = ("not", self.operand())
        elif self.next_is("("):
            formula = self.implication()
            if not self.next_is(")"):
                self.fail("a parenthesis is not closed")
        else:
            formula = ("var", self.variable())
        self.depth -= 1
        return formula

    def variable(self):
        kind, word = self.tokens[self.at] if self.at < len(self.tokens) else (None, "the end of the line")
        if kind != "name":
            found = word if kind is None else repr(word) + self.signs()
            self.fail(f"expected the name of an output, found {found}")
        self.at += 1
        if word in self.index:
            return self.index[word]
        found = _INDEXED.fullmatch(word)
        if found is None:
            known = f"one of the {len(self.index)} names" if self.index else "of the form X0.8"
            alike = get_close_matches(word.lower(), [name.lower() for name in self.index], n=1)
            meant = [f" (do you mean {name!r}?)" for name in self.index if [name.lower()] == alike]
            self.fail(f"unknown variable {word!r}, which is not {known}{meant[0] if meant else ''}")
        return self.flat_index(word, [int(part) for part in found[1].split(".")])

    def flat_index(self, word, position):
        shape = self.shape
        if shape is None:  # one row, of a length that may be unknown
            *rows, column = position
            if any(rows):
                self.fail(f"unknown variable {word!r}: more than one row needs a line such as 'shape [4, 3]' above")
            if self.n_variables is not None and column >= self.n_variables:
                self.fail(f"unknown variable {word!r}: there are {self.n_variables} outputs, numbered from 0")
            return column
        if len(position) == 1:
            position = [0] * (len(shape) - 1) + position if math.prod(shape[:-1]) == 1 else position
        if len(position) != len(shape) or any(i >= size for i, size in zip(position, shape, strict=True)):
            self.fail(f"unknown variable {word!r}: outside of shape {list(shape)}, counted from 0")
        return int(np.ravel_multi_index(position, shape))
