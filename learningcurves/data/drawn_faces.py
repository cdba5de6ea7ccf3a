"""SYNTHETIC faces: simple drawings that show forty attributes, for those who have no CelebA.

The labels follow a Gaussian copula with CelebA's prevalences and tetrachoric correlations (aggregates over 20,000
images, `celeba_attributes.csv`; no image and no single label is in them). The drawings are written out in CelebA's
official layout, so the same reader serves both; a file `SYNTHETIC.txt` marks the folder, and `Faces.synthetic` is True.
"""

import csv
import io
from functools import lru_cache
from pathlib import Path

import numpy as np

from learningcurves.checks import check_integer, check_seed
from learningcurves.data.face_layouts import SYNTHETIC
from learningcurves.data.face_painter import paint_faces
from learningcurves.data.faces import Faces
from learningcurves.data.readers import pillow
from learningcurves.errors import InvalidInput
from learningcurves.storage import write_atomic
from learningcurves.streams import generator

_CHUNK = 256  # faces painted at once
_TRAIN, _VALID = 0.8, 0.9  # shares up to which faces are of the training and the validation part
_NOTE = "The faces in this folder are SYNTHETIC: drawn by learningcurves.data.drawn_faces, no photographs of people.\n"


@lru_cache(maxsize=1)
def copula() -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return the attributes' names, the thresholds (K,) and the correlations (K, K) of the Gaussian copula.

    An attribute is present where its standard normal exceeds the threshold.
    """
    with open(Path(__file__).with_name("celeba_attributes.csv"), newline="") as file:
        rows = list(csv.reader(file))
    names = tuple(rows[0][3:])
    threshold = np.array([float(row[2]) for row in rows[1:]])
    return names, threshold, np.array([row[3:] for row in rows[1:]], dtype=float)


def draw_attributes(n: int, seed: int = 0) -> np.ndarray:
    """Return attributes (n, 40) of faces with CelebA's prevalences and correlations; more contain fewer."""
    _, threshold, correlation = copula()
    values, vectors = np.linalg.eigh(correlation)
    # each tetrachoric correlation is estimated on its own, so the matrix may fall short of being one by a little
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    return generator(seed, use="attributes").standard_normal((n, len(threshold))) @ root.T > threshold


def draw_faces(n: int, *, size: int = 64, seed: int = 0) -> Faces:
    """Return SYNTHETIC faces in memory.

    Parameters
    ----------
    n : int
        How many; the first ones of a larger draw are the same.
    size : int, default=64
        Side in pixels.
    seed : int, default=0

    Returns
    -------
    Faces
        With `synthetic` True; the first 80 % are of the training part, the next 10 % of the validation part.
    """
    check_integer(n, "n", low=1)
    check_integer(size, "size", low=8, hint="It is the side of the pictures in pixels.")
    check_seed(seed)
    names, attributes = copula()[0], draw_attributes(n, seed)
    draws = generator(seed, use="faces").random((n, 16))
    images = np.empty((n, size, size, 3), np.uint8)
    for first in range(0, n, _CHUNK):
        rows = slice(first, first + _CHUNK)
        images[rows] = paint_faces(attributes[rows], names, draws[rows], size)
    images.flags.writeable = False
    return Faces(images, attributes, names, np.arange(1, n + 1), _partition(n), f"drawn faces (seed {seed})", True)


def _partition(n):
    place = (np.arange(n) + 0.5) / n
    return (place > _TRAIN).astype(np.int8) + (place > _VALID)


def write_drawn_faces(folder, n: int, *, size: int = 64, seed: int = 0, quality: int = 95) -> Path:
    """Write SYNTHETIC faces in CelebA's official layout, for `load_faces`; needs Pillow.

    Parameters
    ----------
    folder : path
        Gets ``img_align_celeba/*.jpg``, ``list_attr_celeba.txt``, ``list_eval_partition.txt`` and ``SYNTHETIC.txt``; one
        that holds other files is refused.
    n, size, seed
        As for `draw_faces`.
    quality : int, default=95
        Of the JPEG files.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / SYNTHETIC).is_file():
        raise InvalidInput(f"`folder={str(folder)!r}` holds other files. Drawn faces go into a folder of their own.")
    Image, faces = pillow(), draw_faces(n, size=size, seed=seed)
    write_atomic(folder / SYNTHETIC, _NOTE.encode())  # first, so that no drawn picture is ever without the mark
    files = [f"{i:06d}.jpg" for i in faces.image_id]
    for name, picture in zip(files, faces.images, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
        write_atomic(folder / "img_align_celeba" / name, buffer.getvalue())
    rows = (
        f"{name} " + " ".join(f"{1 if has else -1:2d}" for has in labels)
        for name, labels in zip(files, faces.attributes, strict=True)
    )
    table = [str(n), " ".join(faces.names), *rows]
    parts = [f"{name} {code}" for name, code in zip(files, _partition(n), strict=True)]
    write_atomic(folder / "list_eval_partition.txt", ("\n".join(parts) + "\n").encode())
    write_atomic(folder / "list_attr_celeba.txt", ("\n".join(table) + "\n").encode())
    return folder
