"""What a set of constraints says, before anything is trained with it: how much it allows, and how often data break it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from learningcurves.constraints.compiler import compile_constraints
from learningcurves.constraints.conflict import free_outputs, needed_lines, redundant_lines
from learningcurves.constraints.notation import Constraints, holds, load_constraints
from learningcurves.constraints.parser import shortened
from learningcurves.errors import InvalidInput


@dataclass(frozen=True)
class ConstraintAudit:
    """Exact facts about constraints, and about labels if there were any.

    Attributes
    ----------
    constraints : Constraints
    n_variables : int
        Number of outputs of the network.
    n_models : int
        Number of the 2^n_variables label vectors that satisfy all lines, exact.
    free : tuple of int
        Outputs that the constraints say nothing about: flipping one never changes whether they hold.
    redundant : tuple of bool
        For each line, whether the others imply it (two lines may imply each other: then both are redundant).
    needed : tuple of bool
        Lines that together say the same, none of which the others imply; found by dropping lines from the last one up.
    n_labels : int
        Number of label vectors given; 0 if none were.
    n_violated : tuple of int
        For each line, how many label vectors violate it.
    n_satisfying : int
        How many label vectors satisfy all lines.
    """

    constraints: Constraints
    n_variables: int
    n_models: int
    free: tuple[int, ...]
    redundant: tuple[bool, ...]
    needed: tuple[bool, ...]
    n_labels: int = 0
    n_violated: tuple[int, ...] = ()
    n_satisfying: int = 0

    @property
    def share_of_models(self) -> float:
        """Share of all label vectors that satisfy the constraints; the probability of them at logits 0."""
        return self.n_models / 2**self.n_variables

    @property
    def satisfied(self) -> float:
        """Share of the given labels that satisfy all lines; NaN without labels."""
        return self.n_satisfying / self.n_labels if self.n_labels else float("nan")

    @property
    def free_names(self) -> tuple[str, ...]:
        """Names of the outputs in `free`."""
        return tuple(self.constraints.name(i) for i in self.free)

    def to_frame(self) -> pd.DataFrame:
        """Return a row a line: `line`, `text`, `redundant`, `needed`, and with labels `n_violated` and `violated` (a share)."""
        facts = [(line.number, line.text) for line in self.constraints.lines]
        frame = pd.DataFrame(facts, columns=["line", "text"]).assign(redundant=self.redundant, needed=self.needed)
        if self.n_labels:
            frame["n_violated"] = self.n_violated
            frame["violated"] = frame["n_violated"] / self.n_labels
        return frame

    def __str__(self):
        lines = [
            f"{len(self.constraints.lines)} lines on {self.n_variables} outputs, "
            f"{self.n_models:,} of 2^{self.n_variables} label vectors satisfy them ({self.share_of_models:.3g})",
            f"says nothing about {len(self.free)} outputs: {_some(self.free_names)}",
        ]
        needed = [str(line.number) for line, needed in zip(self.constraints.lines, self.needed, strict=True) if needed]
        lines.append(
            f"{sum(self.redundant)} lines are implied by the others; these {len(needed)} alone say the same: "
            + ", ".join(needed)
        )
        if self.n_labels:
            lines.append(f"{self.satisfied:.1%} of {self.n_labels:,} labels satisfy all lines; most violated:")
            worst = self.to_frame().sort_values("n_violated", ascending=False, kind="stable").head(5)
            lines += [f"  {row.violated:6.1%}  line {row.line}: {shortened(row.text)}" for row in worst.itertuples()]
        return "\n".join(lines)


def audit_constraints(constraints, labels=None, *, names=None) -> ConstraintAudit:
    """Audit constraints: how many label vectors satisfy them, what they leave free, which lines are redundant.

    Parameters
    ----------
    constraints : str, path or Constraints
        As in `SemanticLoss`.
    labels : array of shape (n_labels, n_variables), optional
        Label vectors of 0 and 1, False and True, or -1 and 1; then the audit says how often each line is violated.
    names : sequence of str, optional
        Names of the outputs.

    Returns
    -------
    ConstraintAudit

    Raises
    ------
    InvalidInput
        For malformed lines, unknown outputs or contradicting lines (with their numbers), and for other labels.
    """
    constraints = load_constraints(constraints, names=names)
    labels = None if labels is None else _as_boolean(labels)
    n = constraints.n_variables or (max(constraints.support) + 1 if labels is None else labels.shape[1])
    constraints.check_size(n if labels is None else labels.shape[1])
    circuit = compile_constraints(constraints)  # first: lines that contradict each other are named here
    redundant = redundant_lines(constraints)
    violated = [] if labels is None else [~holds(line.formula, labels) for line in constraints.lines]
    return ConstraintAudit(
        constraints,
        n_variables=n,
        n_models=circuit.count_models(n),
        free=tuple(free_outputs(constraints, n)),
        redundant=tuple(redundant),
        needed=tuple(needed_lines(constraints, redundant)),
        n_labels=0 if labels is None else len(labels),
        n_violated=tuple(int(v.sum()) for v in violated),
        n_satisfying=0 if labels is None else int((~np.logical_or.reduce(violated)).sum()),
    )


def _as_boolean(labels):
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "biuf" or len(labels) == 0:
        raise InvalidInput(
            f"`labels` has shape {labels.shape} and dtype {labels.dtype}; expected (n_labels, n_variables) of 0 and 1."
        )
    wrong = ~np.isin(labels, (-1, 0, 1))
    if wrong.any() or ((labels == -1).any() and (labels == 0).any()):
        found = labels[wrong][0] if wrong.any() else "both -1 and 0"
        raise InvalidInput(f"`labels` holds {found}. Give 0 and 1, False and True, or -1 and 1.")
    return labels > 0


def _some(names, most=12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") or "none"
