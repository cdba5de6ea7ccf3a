"""Raw readers: bytes on disk to uint8 images and labels. They draw nothing, scale nothing and run no code from files."""

import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from learningcurves.errors import InvalidInput

ENVIRONMENT = "LEARNINGCURVES_DATA"
_CHECKOUT = Path(__file__).resolve().parents[2]
_MAX_IDX_BYTES = 1 << 31  # MNIST's largest file has 47 MB
_MAX_BATCH_BYTES = 1 << 28  # an official CIFAR-10 batch has 31 MB


def find_folder(what, subfolders, is_there, root=None) -> Path:
    """Return the first folder that holds the data `what`.

    Parameters
    ----------
    what : str
        Name of the data, for the error.
    subfolders : sequence of str
        Where the data may lie below a data folder ("" for the folder itself).
    is_there : callable, Path -> bool
        Whether a folder holds the data.
    root : path, optional
        The data folder, or the folder of this data. By default that of the environment variable
        ``LEARNINGCURVES_DATA``, else ``shared/data`` in or beside the working directory or the checkout.
    """
    if root is not None:
        roots, said = [Path(root).expanduser()], f"`root={str(root)!r}`"
    elif os.environ.get(ENVIRONMENT):
        roots, said = [Path(os.environ[ENVIRONMENT]).expanduser()], f"{ENVIRONMENT}={os.environ[ENVIRONMENT]!r}"
    else:
        bases = dict.fromkeys([Path.cwd(), Path.cwd().parent, _CHECKOUT, _CHECKOUT.parent])
        roots = [base / "shared" / "data" for base in bases]
        said = f"shared/data, in or beside {Path.cwd()} or the checkout"
    tried = [root / sub for root in roots for sub in subfolders]
    for folder in tried:
        if is_there(folder):
            return folder
    looked = f"; looked in {', '.join(dict.fromkeys(map(str, tried)))}" if len(roots) == 1 else ""
    raise InvalidInput(
        f"no {what} data in {said}{looked}. Pass `root=` the folder that holds it, or set {ENVIRONMENT} to the folder of "
        "all data. Nothing is downloaded."
    )


def _stamp(path):
    """Return what changes when a file does, as the key of a cache."""
    facts = Path(path).stat()
    return facts.st_mtime_ns, facts.st_size


def idx_path(folder, name):
    """Return the path of an idx file, plain or gzipped, or None."""
    for path in (folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx")):
        if path.is_file():
            return path
    return None


def read_idx(path) -> np.ndarray:
    """Return the read-only uint8 array of an idx file (plain or .gz)."""
    path = Path(path)
    return _read_idx(str(path), _stamp(path))


@lru_cache(maxsize=8)  # a grid asks for the same files in every cell
def _read_idx(path, _):
    try:
        with gzip.GzipFile(path) if path.endswith(".gz") else open(path, "rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != 8 or not 1 <= magic[3] <= 4:
                raise InvalidInput(f"`{path}` is not an idx file of bytes (it begins with {magic!r}).")
            shape = struct.unpack(f">{magic[3]}I", file.read(4 * magic[3]))
            size = int(np.prod(shape, dtype=object))
            if size > _MAX_IDX_BYTES:
                raise InvalidInput(
                    f"`{path}` claims {size} bytes (shape {shape}); that is no image set. Copy the file again."
                )
            raw = file.read(size + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InvalidInput(f"`{path}` cannot be read ({error}). Copy the file again.") from None
    if len(raw) != size:
        raise InvalidInput(
            f"`{path}` holds {'more' if len(raw) > size else 'fewer'} bytes than its shape {shape} says."
        )
    return np.frombuffer(raw, np.uint8).reshape(shape)


@contextmanager
def open_npz(path):
    """Open an .npz for a `with` block, as a mapping of arrays that unpickles nothing."""
    with open(path, "rb") as file:  # opened here: numpy leaves the file open when it is no archive
        try:
            archive = np.load(file, allow_pickle=False)
        except ValueError:  # numpy's own message advises to unpickle
            raise InvalidInput(f"`{path}` cannot be read as .npz. Write one with numpy.savez.") from None
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            raise InvalidInput(f"`{path}` cannot be read as .npz ({error}).") from None
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InvalidInput(f"`{path}` is one array, not an .npz of named arrays. Write it with numpy.savez.")
        with archive:
            yield archive


def take(archive, name, path):
    """Return one array of an open .npz, or an error that names the file and the array."""
    try:
        return archive[name]
    except KeyError:
        raise InvalidInput(f"`{path}` has no array `{name}`; it holds {', '.join(archive.files)}.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput(
            f"array `{name}` of `{path}` cannot be read ({error}). Save numbers or text, no objects."
        ) from None


def read_delta_npz(path, labels=None):
    """Return images (n, H, W, 3) and labels of an .npz of losslessly coded pictures, in the official order if known.

    The coding is `delta`, shape (3, n, H, W): second differences along rows and columns modulo 256, with green
    subtracted from red and blue (plane 0 is red - green, 1 green, 2 blue - green). Only `labels` are decoded if given.
    """
    with open_npz(path) as archive:
        label = take(archive, "label", path).astype(np.int64)
        rows = np.arange(len(label)) if labels is None else np.flatnonzero(np.isin(label, labels))
        if "official_index" in archive.files:
            rows = rows[np.argsort(take(archive, "official_index", path)[rows], kind="stable")]
        delta = take(archive, "delta", path)
    if delta.dtype != np.uint8 or delta.ndim != 4 or delta.shape[:2] != (3, len(label)):
        raise InvalidInput(
            f"`{path}`: `delta` has dtype {delta.dtype} and shape {delta.shape}; expected uint8 (3, n, H, W)."
        )
    planes = np.cumsum(np.cumsum(delta[:, rows], 2, dtype=np.uint8), 3, dtype=np.uint8)
    planes[0] += planes[1]
    planes[2] += planes[1]
    return planes.transpose(1, 2, 3, 0), label[rows]


class _Array:
    """Stands in for a NumPy array while a CIFAR batch is read: it keeps the stored state and does nothing with it."""

    def __setstate__(self, state):
        self.state = state


class _DType:
    """Stands in for a NumPy dtype."""

    def __init__(self, code="", *_):
        self.code = code

    def __setstate__(self, state):
        pass


def _latin1(text, _="latin1"):
    return text.encode("latin1")


class _DataUnpickler(pickle.Unpickler):
    """Reads lists, dictionaries, bytes and the shape of arrays; refuses every other name, so no code can run."""

    allowed = {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DType,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module, name):
        try:
            return self.allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no image batch needs") from None

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to something outside the file")


def read_cifar_batch(path):
    """Return images (n, 32, 32, 3) and labels of one official CIFAR-10 batch ("python version").

    The official files are pickles. They are read as data: stand-ins take the place of the array types, any other name
    in the file is an error, and nothing from the file is called.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BATCH_BYTES:
            raise InvalidInput(f"`{path}` is far larger than a CIFAR-10 batch (31 MB).")
        batch = _DataUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        array, labels = batch[b"data"], batch[b"labels"]
        _, shape, dtype, _, raw = array.state
        code = dtype.code.decode() if isinstance(dtype.code, bytes) else dtype.code
        if (
            code != "u1"
            or len(shape) != 2
            or shape[1] != 3072
            or not isinstance(raw, bytes)
            or len(raw) != 3072 * shape[0]
        ):
            raise ValueError(f"data of dtype {code} and shape {shape}")
        images = np.frombuffer(raw, np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = np.array(labels, dtype=np.int64)
        if labels.shape != (len(images),) or labels.min() < 0 or labels.max() > 9:
            raise ValueError(f"{labels.shape} labels for {len(images)} images")
    except InvalidInput:
        raise
    except Exception as error:  # a damaged pickle can fail with any exception; none may pass for data
        raise InvalidInput(
            f"`{path}` is not an official CIFAR-10 python batch: {type(error).__name__}: {error}."
        ) from None
    return images, labels


def jpeg_to_array(content, size, where):
    """Return one JPEG as (size, size, 3) uint8; needs Pillow."""
    Image = pillow()
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture = picture.convert("RGB")
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BICUBIC)
            return np.asarray(picture)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"`{where}` is not a readable picture ({error}).") from None


def pillow():
    """Return PIL.Image, or say which extra brings it."""
    try:
        from PIL import Image
    except ImportError:
        raise InvalidInput(
            "JPEG pictures need Pillow, which is not installed: pip install 'learningcurves[images]'."
        ) from None
    return Image


def read_jpeg_npz(path, labels, size):
    """Return images (n, size, size, 3) and labels of an .npz of JPEG files stored end to end (`jpeg`, `offset`)."""
    with open_npz(path) as archive:
        label, offset = take(archive, "label", path).astype(np.int64), take(archive, "offset", path)
        content = take(archive, "jpeg", path).tobytes()
    rows = np.flatnonzero(np.isin(label, labels))
    images = [jpeg_to_array(content[offset[i] : offset[i + 1]], size, f"{path}, picture {i}") for i in rows]
    return np.stack(images) if images else np.empty((0, size, size, 3), np.uint8), label[rows]


def read_jpeg_folders(folder, wnids, size):
    """Return images (n, size, size, 3) and labels 0, 1, ... of the folders `wnids`, files in sorted order."""
    files = [(path, i) for i, wnid in enumerate(wnids) for path in sorted((folder / wnid).glob("*.[jJ][pP]*[gG]"))]
    return read_pictures(files, size)


def read_pictures(listed, size):
    """Return images (n, size, size, 3) and labels of picture files, given as pairs (path, label); needs Pillow."""
    images = []
    for path, _ in listed:
        if not path.is_file():
            raise InvalidInput(f"`{path}` is missing, which the list of pictures names. Copy the set again.")
        images.append(jpeg_to_array(path.read_bytes(), size, path))
    labels = np.array([label for _, label in listed], dtype=np.int64)
    return np.stack(images) if images else np.empty((0, size, size, 3), np.uint8), labels
