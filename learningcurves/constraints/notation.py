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
from learningcurves.constraints.formula import Formula, holds, read_formula, read_shape, shortened, variables
from learningcurves.errors import InvalidInput


@dataclass(frozen=True)
class Line:
    """One constraint: its line number in the text (from 1), the text, and the formula."""

    number: int
    text: str
    formula: Formula


@dataclass(frozen=True)
class Constraints:
    """Lines that must hold together, over the outputs 0 to n_variables - 1 of a network.

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

    def __repr__(self):
        outputs = "any number of" if self.n_variables is None else self.n_variables
        return f"Constraints({len(self.lines)} lines on {outputs} outputs: {shortened('; '.join(line.text for line in self.lines))})"

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
    text = text_of(source)
    try:
        return _read(text, names, n_variables)
    except InvalidInput as error:
        if text is source:
            raise
        raise InvalidInput(f"{os.fspath(source)}, {error}") from None


def _check_names(names):
    if names is None:
        return None
    names = tuple(map(str, names)) if not isinstance(names, str) else (names,)
    wrong = [name for name in names if not re.fullmatch(r"\w+", name)]
    if wrong or len(set(names)) < len(names) or not names:
        what = f"holds {wrong[0]!r}" if wrong else "is empty" if not names else "holds a name twice"
        raise InvalidInput(f"`names` {what}. Give one name of letters, digits and _ for each output of the network.")
    return names


def text_of(source) -> str:
    """Return the text of constraints that are given as a text, as a path object, or as the name of a file."""
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
            shape = read_shape(line, number, shape, bool(lines), n_variables)
            n_variables = math.prod(shape)
        else:
            lines.append(Line(number, line, read_formula(line, number, names, shape, n_variables)))
    if not lines:
        raise InvalidInput("`constraints` holds no line. Write at least one, such as 'X0.8 >> ~X0.4'.")
    return Constraints(tuple(lines), n_variables, names)
