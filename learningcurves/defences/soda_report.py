"""What SODA found in a network: every number behind the verdict, and the verdict in words."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from learningcurves.defences.soda_index import Victim

BACKDOORED, CLEAN, CANNOT_TELL = "backdoored", "clean", "cannot tell"


@dataclass(frozen=True, eq=False)
class SodaReport:
    """Result of `detect_soda`.

    Classes are numbered by the network's outputs; `classes` holds their labels.

    Attributes
    ----------
    verdict : {"backdoored", "clean", "cannot tell"}
    target, victim : int or None
        Class with the smallest index, and the class whose samples activate it most. Named whatever the verdict, as long
        as there is an index; a clean network has such classes too.
    reasons : tuple of str
        Why it cannot tell; what was left out.
    index : ndarray of shape (n_classes,)
        Signed median-MAD index of `correlation`; flagged where it is below -threshold.
    flagged : bool ndarray of shape (n_classes,)
    threshold : float
        In units of 1.4826 MAD.
    fpr : float
        Probability that a network of so many exchangeable (independent, Gaussian) classes is flagged at `threshold`.
    p_value : float
        Probability that such a network has a class as extreme as the target.
    correlation : ndarray of shape (n_classes,)
        Mean of `correlation_by_source` over the sources.
    correlation_by_source : ndarray of shape (n_sources, n_classes)
    attribution : ndarray of shape (n_sources, n_neurons, n_classes)
        Read-only; one block seen n_sources times where it does not depend on the source.
    sources : ndarray of int
        Source classes of the two above.
    method, method_reason, method_gap
        "closed form", "closed form of the softmax" or "intervention"; why not the closed form; its largest difference from
        interventions on a few neurons, relative.
    neuron_means : ndarray of shape (n_classes, n_neurons)
        Mean of each neuron over the clean samples of each class.
    activation : ndarray of shape (n_classes, n_classes)
        Mean activation of each output class (column) on the clean samples of each source class (row).
    offset : ndarray of shape (n_neurons,)
        What was added to each neuron.
    victim_evidence : Victim or None
        Index, flags and rule of the victim.
    counts : ndarray of shape (n_classes,)
        Clean samples of each class.
    classes, class_names
        Labels and names of the outputs.
    layer : str
        Module whose input ("last") or output are the neurons.
    network : str
        Class and first 12 digits of the SHA-256 of the weights.
    settings : mapping
        The arguments.
    seconds : float
    """

    verdict: str
    target: int | None
    victim: int | None
    reasons: tuple[str, ...]
    index: np.ndarray
    flagged: np.ndarray
    threshold: float
    fpr: float
    p_value: float
    correlation: np.ndarray
    correlation_by_source: np.ndarray
    attribution: np.ndarray
    sources: np.ndarray
    method: str
    method_reason: str
    method_gap: float
    neuron_means: np.ndarray
    activation: np.ndarray
    offset: np.ndarray
    victim_evidence: Victim | None
    counts: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    layer: str
    network: str
    settings: Mapping
    seconds: float

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def margin(self) -> float:
        """How far the target's index is beyond the threshold (negative: short of it), in units of the index."""
        return float("nan") if self.target is None else float(-self.index[self.target] - self.threshold)

    def attribution_of(self, source: int | None = None) -> np.ndarray:
        """Return the attribution (n_neurons, n_classes) of one source class, or averaged over the sources."""
        if source is None:
            return self.attribution[0] if self.attribution.strides[0] == 0 else self.attribution.mean(axis=0)
        found = np.flatnonzero(self.sources == source)
        if len(found) == 0:
            raise KeyError(f"class {source} is no source of this report; there are {self.sources.tolist()}")
        return self.attribution[found[0]]

    @property
    def words(self) -> str:
        """The verdict in words, with how close it was."""
        lines = [f"{self.verdict}: {self._evidence()}"]
        if self.victim_evidence is not None and self.target is not None:
            lines.append(self._victim_words())
        how = self.method if not self.method_reason else f"{self.method} ({self.method_reason})"
        lines.append(f"attribution of {len(self.offset)} neurons of {self.layer!r} by {how}")
        return "\n".join([*lines, *self.reasons])

    def _evidence(self) -> str:
        if self.target is None:
            return "no class has an index"
        order = np.argsort(np.where(np.isfinite(self.index), self.index, np.inf))
        first = f"class {self.class_names[self.target]} has the smallest index {self.index[self.target]:.2f}"
        side = f"{self.margin:.2f} beyond" if self.margin > 0 else f"{-self.margin:.2f} short of"
        text = f"{first}, {side} the threshold -{self.threshold:.2f}"
        if self.flagged.sum() > 1:
            text += f" ({int(self.flagged.sum())} classes are beyond it)"
        text += f"; the next is class {self.class_names[order[1]]} at {self.index[order[1]]:.2f}"
        return (
            f"{text}. Of {self.n_classes} exchangeable classes one is as extreme with probability {self.p_value:.2g}, "
            f"beyond the threshold with probability {self.fpr:.2g}"
        )

    def _victim_words(self) -> str:
        found = self.victim_evidence
        if self.victim is None:
            return f"victim: cannot tell, {found.rule}"
        value = found.index[self.victim]
        index = "without an index" if not np.isfinite(value) else f"index {value:.2f}"
        return f"victim: class {self.class_names[self.victim]}, {index} ({found.rule})"

    def __str__(self):
        return self.words

    def __repr__(self):
        target = None if self.target is None else self.class_names[self.target]
        victim = None if self.victim is None else self.class_names[self.victim]
        return f"SodaReport({self.verdict!r}, target={target!r}, victim={victim!r}, margin={self.margin:.3g})"

    def plot(self, ax=None, **plot_kw):
        """Draw the attribution map, the index of each class with the threshold, and the target's activation.

        Returns
        -------
        learningcurves.plotting.soda.SodaDisplay
        """
        from learningcurves.plotting.soda import SodaDisplay

        return SodaDisplay.from_report(self, ax=ax, **plot_kw)

    def to_frame(self):
        """Return one row a class: class, n, correlation, index, flagged, activation of the target, victim_index."""
        import pandas as pd

        known = self.target is not None
        return pd.DataFrame(
            {
                "class": self.class_names,
                "n": self.counts,
                "correlation": self.correlation,
                "index": self.index,
                "flagged": self.flagged,
                "activation_target": self.activation[:, self.target] if known else np.nan,
                "victim_index": self.victim_evidence.index if self.victim_evidence is not None else np.nan,
            }
        )
