"""Faces with attributes: CelebA in any of its layouts, or drawn faces in the official one, as bytes on demand."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from learningcurves.checks import check_choice, check_integer
from learningcurves.data.face_layouts import PARTITIONS, Layout, find_layout, holds_faces
from learningcurves.data.readers import find_folder, jpeg_to_array
from learningcurves.errors import InvalidInput
from learningcurves.memory import check_memory

CACHE = "LEARNINGCURVES_CACHE"  # environment variable: folder of decoded pictures


@dataclass(frozen=True, eq=False)
class Faces:
    """Pictures of faces and their attributes.

    Attributes
    ----------
    images : uint8 array (n, size, size, 3)
        RGB, 0 to 255; read-only, and memory-mapped where a cache is used.
    attributes : bool array (n, K)
    names : tuple of str
        Names of the K attributes.
    image_id : int array (n,)
        Number of the original file.
    partition : int8 array (n,) or None
        Official partition: 0 train, 1 validation, 2 test.
    source : str
        Layout and folder.
    synthetic : bool
        Whether the faces are drawn ones.
    """

    images: np.ndarray
    attributes: np.ndarray
    names: tuple[str, ...]
    image_id: np.ndarray
    partition: np.ndarray | None
    source: str
    synthetic: bool

    def __len__(self):
        return len(self.attributes)

    def __repr__(self):
        kind = "SYNTHETIC (drawn) faces" if self.synthetic else "faces"
        side = self.images.shape[1]
        return f"Faces: {len(self)} {kind} of {side}x{side}, {len(self.names)} attributes, from {self.source}"

    def index(self, attribute: str) -> int:
        """Return the column of an attribute by its name."""
        return self.names.index(check_choice(attribute, "attribute", self.names))

    def take(self, rows) -> "Faces":
        """Return some of the faces, in the given order."""
        part = None if self.partition is None else self.partition[rows]
        return replace(
            self,
            images=self.images[rows],
            attributes=self.attributes[rows],
            image_id=self.image_id[rows],
            partition=part,
        )

    def digest(self) -> str:
        """Return the SHA-256 of pictures and attributes (they are read through once)."""
        found = hashlib.sha256(repr((self.images.shape, self.names)).encode())
        for first in range(0, len(self), 4096):
            found.update(np.ascontiguousarray(self.images[first : first + 4096]).data)
        found.update(np.packbits(self.attributes).data)
        return found.hexdigest()


def load_faces(root=None, *, size: int = 64, partition=None, n: int | None = None, cache=None) -> Faces:
    """Return the faces of a folder: CelebA in any layout, or drawn faces (`write_drawn_faces`).

    Parameters
    ----------
    root : path, optional
        The folder, or the data folder above it (then ``celeba`` in it). By default that of the environment variable
        ``LEARNINGCURVES_DATA``, else ``../shared/data``. Known are: the official files (``list_attr_celeba.txt``,
        ``img_align_celeba/``, perhaps ``list_eval_partition.txt``), also below ``celeba/`` or in ``Anno/``, ``Img/``
        and ``Eval/``; CSV mirrors of them; parquet with one boolean column an attribute; an ``.npz`` of JPEG files end
        to end. A part of the pictures is enough; a partition is optional.
    size : int, default=64
        Side in pixels; pictures are squashed to a square (178x218 in CelebA), bicubic.
    partition : {"train", "valid", "test"} or sequence of them, optional
        Which part of the official partition; all by default.
    n : int, optional
        Only the first so many faces.
    cache : path, optional
        Folder of decoded pictures, by default that of the environment variable ``LEARNINGCURVES_CACHE``. With it they
        are decoded once and memory-mapped afterwards; without it they are decoded into memory.

    Returns
    -------
    Faces

    Raises
    ------
    InvalidInput
        If no layout is recognised, a table is damaged (with the line) or a picture cannot be read (with its number).
    """
    check_integer(size, "size", low=8, hint="It is the side of the pictures in pixels.")
    folder = find_folder("CelebA", ("celeba", "CelebA", ""), holds_faces, root)
    layout = find_layout(folder)
    if layout is None:
        raise InvalidInput(f"`{folder}` holds neither an attribute table with pictures nor parquet nor coded faces.")
    rows = _chosen(layout, partition)
    if n is not None:
        rows = rows[: check_integer(n, "n", low=1, high=len(rows), hint="There are no more faces.")]
    cache = os.environ.get(CACHE) if cache is None else cache
    images = _decoded(layout, rows, size) if cache is None else _cached(layout, rows, size, Path(cache))
    images.flags.writeable = False
    part = None if layout.partition is None else layout.partition[rows]
    source = f"{layout.kind} layout{' of drawn faces' if layout.synthetic else ''} ({folder.name})"
    return Faces(images, layout.attributes[rows], layout.names, layout.image_id[rows], part, source, layout.synthetic)


def _chosen(layout: Layout, partition):
    if partition is None:
        return np.arange(len(layout.attributes))
    wanted: Sequence[str] = (partition,) if isinstance(partition, str) else partition
    codes = [PARTITIONS.index(check_choice(name, "partition", PARTITIONS)) for name in wanted]
    if layout.partition is None:
        raise InvalidInput(
            f"`partition={partition!r}`, but `{layout.folder}` has no list_eval_partition. Leave `partition` out."
        )
    rows = np.flatnonzero(np.isin(layout.partition, codes))
    if not len(rows):
        raise InvalidInput(f"`partition={partition!r}` holds none of the faces in `{layout.folder}`.")
    return rows


def _decoded(layout, rows, size, out=None):
    if out is None:
        way_out = "Pass `cache=` a folder, a smaller `size`, or `n`."
        check_memory(len(rows) * size * size * 3, "size", f"{len(rows)} pictures of {size}x{size} as bytes", way_out)
        out = np.empty((len(rows), size, size, 3), np.uint8)
    for i, content in enumerate(layout.pictures(rows)):
        out[i] = jpeg_to_array(content, size, f"{layout.folder}, picture {layout.image_id[rows[i]]}")
    return out


def _cached(layout, rows, size, cache):
    """Return the decoded pictures as a memory map; a file is made once, whole or not at all."""
    key = hashlib.sha256(f"{layout.identity} {size} {hashlib.sha256(rows.tobytes()).hexdigest()}".encode())
    path = cache / f"faces-{size}-{key.hexdigest()[:24]}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=cache)
        os.close(handle)
        try:
            out = np.lib.format.open_memmap(name, mode="w+", dtype=np.uint8, shape=(len(rows), size, size, 3))
            _decoded(layout, rows, size, out)
            out.flush()
            del out
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return np.load(path, mmap_mode="r", allow_pickle=False)
