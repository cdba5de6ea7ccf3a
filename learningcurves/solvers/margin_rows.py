"""The kernel rows of the margin set, kept from one solve to the next."""

from typing import Any

import numpy as np


class MarginRows:
    """The kernel rows of a small, slowly changing set S, in an order of its own.

    Parameters
    ----------
    kernel : KernelRows
        Samples beyond a quarter of its budget are not held: products then recompute rows.
    """

    def __init__(self, kernel: Any):
        self.kernel = kernel
        self.index = np.empty(0, dtype=np.intp)
        self._rows = np.empty((0, kernel.n))
        self._limit = kernel.n if kernel.matrix is not None else max(16, kernel.budget // 4 // (8 * kernel.n))
        self._held = 0

    def __len__(self):
        return len(self.index)

    @property
    def holds_rows(self) -> bool:
        """Whether K[S, :] is in memory (else products go through X, or recompute rows)."""
        return self._held == len(self.index) and not self.kernel.is_linear

    def select(self, members):
        """Make S the boolean mask `members` (N,); what stays keeps its place as far as possible."""
        wanted = members.copy()
        wanted[self.index] = False  # those to add
        leaving = np.flatnonzero(~members[self.index])
        for position in leaving[::-1]:
            self.remove(int(position))
        adding = np.flatnonzero(wanted)
        if len(adding):
            self._append(adding)

    def remove(self, position: int):
        """Drop the member at `position`; the last one takes its place."""
        last = len(self.index) - 1
        if self.holds_rows:
            if position != last:
                self._rows[position] = self._rows[last]
            self._held = last
        self.index[position] = self.index[last]
        self.index = self.index[:last]

    def add(self, sample: int):
        """Append one sample."""
        self._append(np.array([sample], dtype=np.intp))

    def _append(self, adding):
        before, size = len(self.index), len(self.index) + len(adding)
        held = self.holds_rows
        self.index = np.concatenate([self.index, adding])
        if self.kernel.is_linear or size > self._limit:
            return
        if not held:  # too many before, few enough now
            before, adding = 0, self.index
        if size > len(self._rows):
            grown = np.empty((min(max(2 * size, 64), max(self._limit, size)), self.kernel.n))
            grown[:before] = self._rows[:before]
            self._rows = grown
        if self.kernel.matrix is not None:
            np.take(self.kernel.matrix, adding, axis=0, out=self._rows[before:size], mode="clip")
        else:
            self._rows[before:size] = self.kernel.rows(adding)
        self._held = size

    def square(self) -> np.ndarray:
        """K[S, S]."""
        if self.holds_rows:
            return self._rows[: len(self.index)].take(self.index, axis=1)
        return self.kernel.block(self.index, self.index)

    def columns(self, samples) -> np.ndarray:
        """K[S, samples]."""
        if self.holds_rows:
            return self._rows[: len(self.index)].take(samples, axis=1)
        return self.kernel.block(self.index, np.atleast_1d(samples))

    def column(self, sample: int) -> np.ndarray:
        """K[S, sample]."""
        if self.holds_rows:
            return self._rows[: len(self.index), sample].copy()
        return self.kernel.block(self.index, np.array([sample]))[:, 0]

    def times(self, x) -> np.ndarray:
        """K[:, S] x, shape (N,)."""
        if self.holds_rows:
            return x @ self._rows[: len(self.index)]
        v = np.zeros(self.kernel.n)
        v[self.index] = x
        return self.kernel.dot(v)
