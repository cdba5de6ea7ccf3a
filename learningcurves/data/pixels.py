"""Images that stay bytes until they are asked for: a quarter of the memory, and the same numbers to the last bit."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

CHUNK = 1024  # images that are turned into numbers at once where all are wanted


@dataclass(frozen=True, eq=False)
class Pixels:
    """Some images of a store of bytes, read as float32 pixels in [0, 1], with the trigger on those that carry it.

    Stands where an array of shape (n, 3, size, size) would: it has a length and a shape, an index or a slice gives an
    array, and ``np.asarray`` the whole. Nothing is kept of what was given.

    Attributes
    ----------
    images : uint8 array (N, size, size, 3)
        All images, perhaps memory-mapped.
    rows : int array (n,)
        Which of them, in order.
    trigger : Trigger
        Goes on one image after the other, so it does not matter which are read together.
    stamped : bool array (n,)
        Which of the rows carry the trigger.
    """

    images: np.ndarray
    rows: np.ndarray
    trigger: Any
    stamped: np.ndarray

    dtype = np.dtype(np.float32)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, 3, size, size)."""
        height, width, channels = self.images.shape[1:]
        return len(self.rows), channels, height, width

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self[[index]][0]
        if isinstance(index, tuple):  # images, then channels, rows, columns
            images = self[index[0]]
            return images[(*([slice(None)] if images.ndim == self.ndim else []), *index[1:])]
        rows, stamped = self.rows[index], self.stamped[index]
        pixels = np.ascontiguousarray(self.images[rows].transpose(0, 3, 1, 2), dtype=np.float32)
        pixels /= 255.0
        if stamped.any():
            pixels[stamped] = self.trigger.apply(pixels[stamped])
        return pixels

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError("Pixels are made of bytes, so an array of them is a copy: leave `copy=False` out.")
        out = np.empty(self.shape, self.dtype)
        for first in range(0, len(self), CHUNK):
            out[first : first + CHUNK] = self[first : first + CHUNK]
        return out if dtype is None else out.astype(dtype, copy=False)

    def __repr__(self):
        return f"Pixels of shape {self.shape}, {int(self.stamped.sum())} with {self.trigger!r}"

    def followed_by(self, other: "Pixels") -> "Pixels":
        """Return these images and then others of the same store and trigger."""
        rows, stamped = (np.concatenate([getattr(self, n), getattr(other, n)]) for n in ("rows", "stamped"))
        return replace(self, rows=rows, stamped=stamped)
