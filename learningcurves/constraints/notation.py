"""The notation of constraints: one formula a line, read by a parser of its own that evaluates nothing.

    # comments and empty lines are skipped
    shape [1, 40]                  # optional: the outputs as a tensor; X0.8 is row 0, column 8
    X0.8 >> ~(X0.4 | X0.9)         # names, ~ (not), & (and), | (or), >> (implies), parentheses
    (X0.18 >> X0.36) & (X0.36 >> X0.18)

All lines must hold together. ``X8`` and ``X.8`` are ``X0.8`` where there is one row; with `names`, a line may say
``Mustache >> ~No_Beard`` instead.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput

MAX_DEPTH = 100  # of nested parentheses and negations
_TOKEN = re.compile(r"\s*(?:(?P<name>\w+(?:\.\w+)*|\w*(?:\.\w+)+)|(?P<op>>>|[~&|()])|(?P<bad>\S))")
_INDEXED = re.compile(r"X\.?(\d+(?:\.\d+)*)")
_SHAPE = re.compile(r"shape\s*\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]")

Formula = tuple  # ("var", i), ("not", f), ("and", f, ...), ("or", f, ...), ("implies", f, g)


@dataclass(frozen=True)
class Line:
    """One constraint: its line number in the text (from 1), the text, and the formula."""

    number: int
    text: str
    formula: Formula


@dataclass(frozen=True)
class Constraints:
    """Lines that must hold together, over the outputs 0 ... n_variables - 1 of a network.

    `n_variables` is None where neither a shape line nor names say it: then any number of outputs above the largest
    index will do.
    """

    lines: tuple[Line, ...]
    n_variables: int | None = None
    names: tuple[str, ...] | None = None

    @property
    def support(self) -> tuple[int, ...]:
        """Outputs that some line speaks of, sorted."""
        return tuple(sorted({i for line in self.lines for i in variables(line.formula)}))

    def check_size(self, n: int) -> int:
        """Return the number of outputs `n` if the lines fit it."""
        if self.n_variables is not None and n != self.n_variables:
            raise InvalidInput(
                f"the constraints are on {self.n_variables} outputs, the logits have {n} columns. Correct the shape line or "
                "names, or pass logits of shape (batch, n)."
            )
        for line in self.lines:
            largest = max(variables(line.formula))
            if largest >= n:
                raise InvalidInput(
                    f"line {line.number}: output {largest} does not exist, there are {n} (0 to {n - 1}): {shortened(line.text)}. "
                    "Correct the line, or the number of outputs."
                )
        return n

    def satisfied(self, labels: np.ndarray) -> np.ndarray:
        """Return which rows of boolean `labels` (n, n_variables) satisfy all lines, shape (n,)."""
        labels = np.asarray(labels, dtype=bool)
        return np.logical_and.reduce([holds(line.formula, labels) for line in self.lines])

    def name(self, variable: int) -> str:
        """Return how output `variable` is called."""
        return self.names[variable] if self.names else f"X0.{variable}"


def load_constraints(source, *, names=None, n_variables=None) -> Constraints:
    """Read constraints from a text in the notation of this module, or from a file.

    Parameters
    ----------
    source : str, path or Constraints
        The text itself; or a path object, or the name of a file as a str.
    names : sequence of str, optional
        Names of the network's outputs in order; lines may then use them in place of ``X0.8``.
    n_variables : int, optional
        Number of outputs, where neither a shape line nor `names` says it.

    Returns
    -------
    Constraints

    Raises
    ------
    InvalidInput
        With the number of the line that is malformed or names an unknown output. Whether the lines contradict each
        other is found by `learningcurves.constraints.compiler.compile_constraints`.
    """
    if isinstance(source, Constraints):
        return source
    names = _check_names(names)
    if n_variables is not None:
        n_variables = check_integer(
            n_variables, "n_variables", low=1, hint="It is the number of the network's outputs."
        )
    if names is not None:
        if n_variables not in (None, len(names)):
            raise InvalidInput(f"`n_variables={n_variables}` beside {len(names)} `names`. Leave it out.")
        n_variables = len(names)
    return _read(_text_of(source), names, n_variables)


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


def _check_names(names):
    if names is None:
        return None
    names = tuple(map(str, names)) if not isinstance(names, str) else (names,)
    wrong = [name for name in names if not re.fullmatch(r"\w+", name)]
    if wrong or len(set(names)) < len(names) or not names:
        what = f"holds {wrong[0]!r}" if wrong else "is empty" if not names else "holds a name twice"
        raise InvalidInput(f"`names` {what}. Give one name of letters, digits and _ for each output of the network.")
    return names


def _text_of(source) -> str:
    if isinstance(source, os.PathLike):
        path = Path(source)
    elif not isinstance(source, str):
        raise InvalidInput(
            f"`constraints={source!r}` is not a text or a path. Give lines such as 'X0.8 >> ~X0.4', or a file of them."
        )
    elif "\n" in source or any(sign in source for sign in "~&|>#"):
        return source
    elif os.path.isfile(source):
        path = Path(source)
    elif re.search(r"[/\\]|\.(txt|sympy)$", source.strip()):
        raise InvalidInput(
            f"`constraints`: there is no file {source!r}. Correct the path, or pass the lines themselves."
        )
    else:
        return source
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"`constraints`: {str(path)!r} cannot be read as text ({error}).") from None


def _read(text, names, n_variables):
    shape, lines = None, []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        if re.match(r"shape\b", line):
            shape = _read_shape(line, number, shape, bool(lines), n_variables)
            n_variables = math.prod(shape)
        else:
            reader = _Reader(line, number, names, shape, n_variables)
            lines.append(Line(number, line, reader.formula()))
    if not lines:
        raise InvalidInput("`constraints` holds no line. Write at least one, such as 'X0.8 >> ~X0.4'.")
    return Constraints(tuple(lines), n_variables, names)


def _read_shape(line, number, shape, late, n_variables):
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
            self.fail(f"{self.tokens[self.at][1]!r} was not expected")
        return formula

    def fail(self, why):
        raise InvalidInput(f"line {self.number}: {why}: {shortened(self.line)}")

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
            self.fail(f"expected the name of an output, found {word if kind is None else repr(word)}")
        self.at += 1
        if word in self.index:
            return self.index[word]
        found = _INDEXED.fullmatch(word)
        if found is None:
            known = f"one of the {len(self.index)} names" if self.index else "of the form X0.8"
            self.fail(f"unknown variable {word!r}, which is not {known}")
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
