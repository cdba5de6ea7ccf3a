"""The layouts in which CelebA lies on people's disks: which files are there, and how their tables are read.

A layout gives the attribute table and, picture by picture, the bytes of the image files. Nothing is decoded here.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learningcurves.data.face_tables import read_attributes, table_lines
from learningcurves.data.readers import open_npz, take
from learningcurves.errors import InvalidInput

PARTITIONS = ("train", "valid", "test")  # the official partition's codes 0, 1, 2
SYNTHETIC = "SYNTHETIC.txt"  # the file that marks a folder of drawn faces
_PICTURES = (".jpg", ".jpeg", ".png")
# the official partition by the number of the image file (1-based): train up to here, validation up to here
_LAST_TRAIN, _LAST_VALID = 162_770, 182_637
_COMPLETE = 202_599


@dataclass(frozen=True, eq=False)
class Layout:
    """Attribute table of the faces that have a picture, and access to the pictures.

    Attributes
    ----------
    kind : str
        "coded", "official", "csv" or "parquet".
    folder : Path
    names : tuple of str
        Names of the attributes.
    attributes : bool array (n, K)
    image_id : int array (n,)
        Number of the original file where there is one, else the row, from 1.
    partition : int array (n,) or None
        0 train, 1 validation, 2 test.
    identity : str
        Changes when the files do: the key of the cache of decoded pictures.
    pictures : callable, rows -> iterator of bytes
    """

    kind: str
    folder: Path
    names: tuple[str, ...]
    attributes: np.ndarray
    image_id: np.ndarray
    partition: np.ndarray | None
    identity: str
    pictures: Callable[[np.ndarray], Iterator[bytes]]

    @property
    def synthetic(self) -> bool:
        """Whether the folder says that its faces are drawn."""
        return (self.folder / SYNTHETIC).is_file()


def find_layout(folder: Path) -> Layout | None:
    """Return the layout of a folder, or None where it holds no faces."""
    for look in (_coded, _parquet, _tables):
        found = look(folder)
        if found is not None:
            return found
    return None


def holds_faces(folder: Path) -> bool:
    """Whether a folder looks like one of the layouts; reads no file."""
    if not folder.is_dir():
        return False
    return bool(_files(folder, "faces*.npz") or _files(folder, "*.parquet") or _attribute_file(folder))


def _files(folder, pattern):
    return sorted(folder.glob(pattern)) or sorted(folder.glob(f"*/{pattern}"))


def _digest(*facts) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _stat(path):
    facts = path.stat()
    return str(path.resolve()), facts.st_mtime_ns, facts.st_size


def official_partition(image_id) -> np.ndarray:
    """Return the official partition of complete CelebA by the number of the image file."""
    return (np.asarray(image_id) > _LAST_TRAIN).astype(np.int8) + (np.asarray(image_id) > _LAST_VALID)


# Pictures end to end in one .npz: jpeg, offset, image_id, attr_bits, names


def _coded(folder):
    for path in _files(folder, "faces*.npz"):
        with open_npz(path) as archive:
            if "jpeg" not in archive.files:
                continue
            names = tuple(str(name) for name in take(archive, "names", path))
            offset, image_id = take(archive, "offset", path), take(archive, "image_id", path).astype(np.int64)
            bits = np.unpackbits(take(archive, "attr_bits", path), axis=1)[:, : len(names)].astype(bool)
        if len(bits) != len(image_id) or len(offset) != len(bits) + 1:
            raise InvalidInput(
                f"`{path}` disagrees: {len(bits)} rows of attributes, {len(image_id)} numbers, {len(offset)} offsets "
                "(one more than pictures is needed)."
            )

        def pictures(rows, path=path, offset=offset):
            with open_npz(path) as archive:
                content = take(archive, "jpeg", path)
            for i in rows:
                yield content[offset[i] : offset[i + 1]].tobytes()

        known = image_id.min(initial=1) >= 1 and image_id.max(initial=0) <= _COMPLETE
        partition = official_partition(image_id) if known else None
        return Layout("coded", folder, names, bits, image_id, partition, _digest(_stat(path)), pictures)
    return None


# A table of attributes beside a folder of pictures: the official files, torchvision's, and CSV mirrors


def _attribute_file(folder):
    for name in ("list_attr_celeba.txt", "list_attr_celeba.csv"):
        found = _files(folder, name)
        if found:
            return found[0]
    return None


def _tables(folder):
    path = _attribute_file(folder)
    if path is None:
        return None
    names, table = read_attributes(path)
    found = _picture_files(folder)
    rows = [name for name in table if name in found]
    if not rows:
        raise InvalidInput(
            f"`{folder}` has the attribute table {path.name} but no picture that it names. Put the pictures into "
            f"`{folder / 'img_align_celeba'}`; a part of them is enough."
        )
    partition = _read_partition(folder, rows)
    paths = [found[name] for name in rows]
    identity = _digest(_stat(path), [_stat(p) for p in paths])
    image_id = np.array([_number(name, i + 1) for i, name in enumerate(rows)], dtype=np.int64)
    kind = "official" if path.suffix == ".txt" else "csv"
    attributes = np.array([table[name] for name in rows], dtype=bool)
    return Layout(
        kind,
        folder,
        names,
        attributes,
        image_id,
        partition,
        identity,
        lambda chosen: (paths[i].read_bytes() for i in chosen),
    )


def _number(name, fallback):
    stem = Path(name).stem
    return int(stem) if stem.isdecimal() else fallback


def _picture_files(folder) -> dict[str, Path]:
    """Return the pictures by name: in img_align_celeba, however deeply nested, or beside the table."""
    places = [*_files(folder, "img_align_celeba"), folder]
    for place in places:
        for _ in range(3):
            found = {p.name: p for p in place.iterdir() if p.suffix.lower() in _PICTURES} if place.is_dir() else {}
            if found:
                return found
            place = place / "img_align_celeba"
    return {}


def _read_partition(folder, rows):
    found = _files(folder, "list_eval_partition.txt") + _files(folder, "list_eval_partition.csv")
    if not found:
        return None
    codes = {words[0]: words[1] for _, words in table_lines(found[0]) if len(words) == 2 and words[1] in "012"}
    missing = [name for name in rows if name not in codes]
    if missing:
        raise InvalidInput(
            f"`{found[0]}` does not say which part {missing[0]!r} belongs to (0, 1 or 2). Copy it again, or remove it: "
            "a partition is optional."
        )
    return np.array([int(codes[name]) for name in rows], dtype=np.int8)


# Parquet: a picture and one boolean column an attribute


def _parquet(folder):
    paths = _files(folder, "*.parquet")
    if not paths:
        return None
    try:
        import pyarrow.parquet as parquet
        import pyarrow.types as types
    except ModuleNotFoundError:
        raise InvalidInput(
            f"`{folder}` holds parquet files, which need pyarrow: pip install 'learningcurves[parquet]'."
        ) from None
    schema = parquet.read_schema(paths[0])
    names = tuple(field.name for field in schema if types.is_boolean(field.type))
    picture = next((f.name for f in schema if types.is_struct(f.type) or types.is_binary(f.type)), None)
    if not names or picture is None:
        raise InvalidInput(
            f"`{paths[0]}` has {len(names)} boolean columns and {'no' if picture is None else 'a'} column of pictures "
            f"(bytes, or a struct with bytes). Its columns are {', '.join(schema.names[:50])}."
        )
    tables = [parquet.read_table(path, columns=list(names)) for path in paths]
    attributes = np.concatenate([np.stack([t[n].to_numpy() for n in names], axis=1) for t in tables]).astype(bool)
    starts = np.cumsum([0, *(t.num_rows for t in tables)])
    parts = [next((i for i, word in enumerate(PARTITIONS) if p.name.startswith(word[:3])), -1) for p in paths]
    partition = None
    if min(parts) >= 0:
        partition = np.repeat(np.array(parts, dtype=np.int8), np.diff(starts))

    def pictures(rows):
        wanted = np.asarray(rows)
        if np.any(np.diff(wanted) < 0):
            raise InvalidInput("pictures of parquet files are read in the order of the rows.")
        for k, path in enumerate(paths):
            inside = wanted[(wanted >= starts[k]) & (wanted < starts[k + 1])] - starts[k]
            if len(inside):
                yield from _parquet_pictures(parquet.ParquetFile(path), picture, inside)

    identity = _digest([_stat(path) for path in paths])
    image_id = np.arange(1, len(attributes) + 1)
    return Layout("parquet", folder, names, attributes, image_id, partition, identity, pictures)


def _parquet_pictures(file, column, rows):
    """Yield the bytes of some rows of one file, one batch of rows in memory at a time."""
    first, chosen = 0, set(rows.tolist())
    for batch in file.iter_batches(batch_size=256, columns=[column]):
        if any(first + i in chosen for i in range(batch.num_rows)):
            for i, cell in enumerate(batch.column(0).to_pylist()):
                if first + i in chosen:
                    yield cell["bytes"] if isinstance(cell, dict) else cell
        first += batch.num_rows
