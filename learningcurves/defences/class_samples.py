"""Clean samples seen class by class, for defences that compare the outputs of a network."""

from dataclasses import dataclass

import numpy as np
import torch

from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.defences.base import CleanSamples, check_network, clean_samples
from learningcurves.networks.samples import fit_input


@dataclass(frozen=True, eq=False)
class ClassSamples(CleanSamples):
    """Clean samples in the shape that a network takes, with the labels and names of its outputs.

    Attributes
    ----------
    X, y, n_outputs
        As in `CleanSamples`; y holds the number of the output.
    classes : ndarray of shape (n_outputs,)
        Label of each output.
    class_names : tuple of str
    """

    classes: np.ndarray
    class_names: tuple[str, ...]

    @property
    def counts(self) -> np.ndarray:
        """Samples of each class, shape (n_outputs,)."""
        return np.bincount(self.y.numpy(), minlength=self.n_outputs)

    def of_class(self, label: int) -> torch.Tensor:
        """Return the samples of one class, given by its number."""
        return self.X[self.y == label]

    def missing(self) -> list[str]:
        """Return the names of the classes without samples."""
        return [self.class_names[c] for c in np.flatnonzero(self.counts == 0)]


def class_samples(network, clean_data, *, classes=None) -> ClassSamples:
    """Read clean samples for a network.

    Parameters
    ----------
    network : torch.nn.Module
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
        Of a `Dataset` the training part, of a problem the clean part.
    classes : array of shape (n_outputs,), optional
        Labels of the outputs in sorted order; by default those of a `Dataset` or problem, else 0 .. n_outputs - 1.
    """
    check_network(network)
    names = None
    if isinstance(clean_data, Dataset | BackdoorProblem):
        names, classes = clean_data.class_names, clean_data.classes if classes is None else classes
    found = clean_samples(network, clean_data, classes=classes)
    labels = np.arange(found.n_outputs) if classes is None else np.unique(classes)
    names = names if names is not None and len(names) == found.n_outputs else labels.tolist()
    return ClassSamples(fit_input(network, found.X), found.y, found.n_outputs, labels, tuple(map(str, names)))
