"""Readers of files on disk: real files where there are some, written ones else, and damaged ones."""

import gzip
import hashlib
import io
import pickle
import struct

import numpy as np
import pytest

from learningcurves.data import readers
from learningcurves.data.arrays import load_dataset, load_npz, save_npz
from learningcurves.data.builtin import load_digits_pair
from learningcurves.data.files import (
    load_cifar10,
    load_cifar10_pair,
    load_imagenette_pair,
    load_mnist,
    load_mnist_pair,
)
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput
from learningcurves.poisoning.backdoor import poison
from learningcurves.poisoning.triggers import RandomPatch


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def small_mnist(tmp_path):
    """Return a folder with four idx files, one of them gzipped, and the arrays in them."""
    rng = np.random.default_rng(0)
    arrays = {}
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, n in (("train", 40), ("t10k", 20)):
        arrays[part] = rng.integers(0, 256, (n, 4, 5), np.uint8), np.arange(n, dtype=np.uint8) % 10
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(arrays[part][0]))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(arrays[part][1])))
    return folder, arrays


def rows(X):
    return {row.tobytes() for row in X}


def test_mnist_from_small_files(small_mnist, monkeypatch):
    folder, arrays = small_mnist
    data = load_mnist_pair(7, 1, root=folder, n_train=None)
    X, y = arrays["train"]
    assert data.image_shape == (1, 4, 5) and data.class_names == ("7", "1")
    for label, digit in ((0, 7), (1, 1)):
        assert rows(data.X_train[data.y_train == label]) == rows(X[y == digit].reshape(-1, 20) / 255)
    np.testing.assert_array_equal(load_mnist_pair(7, 1, root=folder.parent, n_train=None).X_train, data.X_train)
    monkeypatch.setenv("LEARNINGCURVES_DATA", str(folder.parent))
    np.testing.assert_array_equal(load_mnist_pair(7, 1, n_train=None).X_train, data.X_train)
    everything = load_mnist(root=folder)
    assert len(everything.y_train) == 40 and len(everything.classes) == 10
    few = load_mnist_pair(7, 1, root=folder, n_train=3, n_test=2)
    np.testing.assert_array_equal(few.X_train, data.X_train[:3])


def test_a_changed_file_is_read_again(small_mnist):
    folder, arrays = small_mnist
    path = folder / "train-images-idx3-ubyte"
    before = readers.read_idx(path)
    path.write_bytes(idx(arrays["train"][0][:39]))
    assert len(before) == 40 and len(readers.read_idx(path)) == 39


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an idx file"),
        (b"PK\3\4rest", "not an idx file"),
        (bytes([0, 0, 8, 3]), "cannot be read"),
        (idx(np.zeros((40, 4, 5), np.uint8))[:-1], "fewer bytes"),
        (idx(np.zeros((40, 4, 5), np.uint8)) + b"x", "more bytes"),
        (bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 9), "claims"),
        (idx(np.zeros((39, 4, 5), np.uint8)), "disagree"),
    ],
)
def test_damaged_idx_files(small_mnist, content, says):
    folder, _ = small_mnist
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(InvalidInput, match=says):
        load_mnist_pair(7, 1, root=folder)


def test_damaged_gzip(small_mnist):
    folder, _ = small_mnist
    path = folder / "train-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    for content in (whole[:-9], b"\x1f\x8b" + b"garbage" * 9, b"not gzip at all"):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match="cannot be read"):
            load_mnist_pair(7, 1, root=folder)


def test_missing_data_say_where_they_were_looked_for(tmp_path, monkeypatch):
    with pytest.raises(InvalidInput, match="LEARNINGCURVES_DATA") as error:
        load_mnist_pair(7, 1, root=tmp_path)
    assert str(tmp_path / "mnist") in str(error.value) and "root=" in str(error.value)
    monkeypatch.setenv("LEARNINGCURVES_DATA", str(tmp_path / "nowhere"))
    for load in (load_mnist, load_cifar10, lambda: load_imagenette_pair("tench", "church")):
        with pytest.raises(InvalidInput, match="nowhere"):
            load()


def test_mnist_is_the_official_one_and_the_paper_draw_the_released_one(mnist_root):
    data = load_mnist_pair(7, 1, root=mnist_root, draw="paper")
    folder = mnist_root / "mnist"
    X = np.frombuffer(gzip.open(folder / "train-images-idx3-ubyte.gz").read(), np.uint8, offset=16).reshape(-1, 784)
    y = np.frombuffer(gzip.open(folder / "train-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    assert hashlib.sha256(X.tobytes()).hexdigest() == "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"
    pool = np.flatnonzero((y == 7) | (y == 1))
    drawn = pool[np.random.RandomState(999).choice(len(pool), 1501, replace=False)]
    train = drawn[np.random.RandomState(999).permutation(1501)[1:]]
    np.testing.assert_array_equal(data.X_train, X[train] / 255)
    np.testing.assert_array_equal(data.y_train, (y[train] == 1).astype(int))
    assert np.bincount(data.y_test).tolist() == [250, 250] and data.provenance["seed"] is None


def test_mnist_random_draw_nests(mnist_root):
    small, large = (load_mnist_pair(3, 0, root=mnist_root, n_train=n, n_test=50, seed=5) for n in (100, 400))
    np.testing.assert_array_equal(small.X_train, large.X_train[:100])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"draw": "best"}, "draw"),
        ({"draw": "paper", "n_train": 100}, "1500 training"),
        ({"draw": "paper"}, "at least 1501"),
        ({"n_train": 100}, "`n_train=100` is more than"),
        ({"n_train": None, "n_test": 0}, "n_test"),
    ],
)
def test_bad_mnist_options(small_mnist, options, says):
    with pytest.raises(InvalidInput, match=says):
        load_mnist_pair(7, 1, root=small_mnist[0], **options)


def cifar_batch(n, seed, first=0):
    rng = np.random.default_rng(seed)
    return {
        b"batch_label": b"a batch",
        b"labels": [(first + i) % 10 for i in range(n)],
        b"data": rng.integers(0, 256, (n, 3072), np.uint8),
        b"filenames": [b"picture.png"] * n,
    }


def test_official_cifar_batches_are_read_as_data(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    batches = {f"data_batch_{i}": cifar_batch(20, i) for i in range(1, 6)} | {"test_batch": cifar_batch(30, 9)}
    for name, batch in batches.items():
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    data = load_cifar10_pair("airplane", "frog", root=tmp_path, n_train=None)
    assert data.image_shape == (3, 32, 32) and len(data.y_train) == 20 and len(data.y_test) == 6
    planes = np.concatenate([b[b"data"][np.array(b[b"labels"]) == 0] for n, b in batches.items() if n != "test_batch"])
    assert rows(data.X_train[data.y_train == 0]) == rows(planes / 255)  # stored channel first, as we keep them
    assert len(load_cifar10(root=folder).classes) == 10


class Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize(
    "batch",
    [
        Harmful(),
        {b"labels": [0], b"data": Harmful()},
        {b"labels": [0], b"data": np.zeros((1, 3072), np.float32)},
        {b"labels": [0], b"data": np.zeros((1, 3072), object)},
        {b"labels": [0], b"data": np.zeros((1, 3071), np.uint8)},
        {b"labels": [0, 1], b"data": np.zeros((1, 3072), np.uint8)},
        {b"labels": [10], b"data": np.zeros((1, 3072), np.uint8)},
        {b"labels": [0]},
        [1, 2],
    ],
)
def test_other_pickles_are_refused_and_not_run(tmp_path, batch):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(InvalidInput, match="not an official CIFAR-10"):
        readers.read_cifar_batch(path)


def test_cut_pickle(tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(cifar_batch(2, 0), protocol=2)[:-20])
    with pytest.raises(InvalidInput, match="not an official CIFAR-10"):
        readers.read_cifar_batch(path)


def test_coded_images_come_back_exactly(tmp_path):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (12, 32, 32, 3), np.uint8)
    planes = images.transpose(3, 0, 1, 2).copy()
    planes[0] -= planes[1]
    planes[2] -= planes[1]
    delta = np.diff(planes, axis=2, prepend=np.zeros((3, 12, 1, 32), np.uint8))
    delta = np.diff(delta, axis=3, prepend=np.zeros((3, 12, 32, 1), np.uint8))
    label = np.repeat([0, 6], 6).astype(np.uint8)
    order = rng.permutation(12)
    for part in ("train", "test"):
        np.savez(tmp_path / f"{part}.npz", delta=delta, label=label, official_index=order)
    found, y = readers.read_delta_npz(tmp_path / "train.npz")
    np.testing.assert_array_equal(found, images[np.argsort(order)])
    np.testing.assert_array_equal(y, label[np.argsort(order)])
    data = load_cifar10_pair(0, 6, root=tmp_path, n_train=None)
    assert rows(data.X_train) == rows(images.transpose(0, 3, 1, 2).reshape(12, -1) / 255)
    with pytest.raises(InvalidInput, match="no sample of class 'bird'"):
        load_cifar10_pair("airplane", "bird", root=tmp_path)
    with pytest.raises(InvalidInput, match="CIFAR-10 classes"):
        load_cifar10_pair("airplane", "zebra", root=tmp_path)


def test_cifar_on_disk(cifar10_root):
    images, label = readers.read_delta_npz(cifar10_root / "cifar10" / "test.npz")
    assert images.shape == (6500, 32, 32, 3) and np.bincount(label)[0] == 1000
    digest = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    assert digest == "dc05fd01a88ef2e29485434d95a953b2d7d9452dc44c36e74ed4437b42b48725"
    data = load_cifar10_pair("airplane", "frog", root=cifar10_root, n_train=40, n_test=20)
    assert data.class_names == ("airplane", "frog") and data.X_train.shape == (40, 3072)


def jpeg(array):
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.fromarray(array).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_imagenette_folders_and_npz_agree(tmp_path):
    rng = np.random.default_rng(0)
    flat = np.broadcast_to(rng.integers(0, 256, (6, 1, 1, 3), np.uint8), (6, 20, 16, 3))
    files = [jpeg(np.ascontiguousarray(image)) for image in flat]
    wnids = ["n01440764", "n03417042"]
    for part in ("train", "val"):
        for i, content in enumerate(files):
            path = tmp_path / "folders" / "imagenette2" / part / wnids[i % 2] / f"{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        order = [0, 2, 4, 1, 3, 5]
        (tmp_path / "npz").mkdir(exist_ok=True)
        np.savez(
            tmp_path / "npz" / f"{part}.npz",
            jpeg=np.frombuffer(b"".join(files[i] for i in order), np.uint8),
            offset=np.cumsum([0] + [len(files[i]) for i in order]),
            label=np.array([1, 1, 1, 0, 0, 0]),  # the file's own numbering must not matter
            wnid=np.array(wnids[::-1]),
        )
    one, two = (
        load_imagenette_pair("tench", "garbage truck", root=tmp_path / kind, size=8) for kind in ("folders", "npz")
    )
    assert one.image_shape == (3, 8, 8) and one.class_names == ("tench", "garbage truck")
    np.testing.assert_array_equal(one.X_train, two.X_train)
    np.testing.assert_array_equal(one.y_train, two.y_train)
    for label in (0, 1):
        expected = {tuple(np.round(c / 255, 1)) for c in flat[label::2, 0, 0]}
        found = one.X_train[one.y_train == label].reshape(-1, 3, 64).mean(axis=2)
        assert np.abs(np.sort(found.ravel()) - np.sort((flat[label::2, 0, 0] / 255).ravel())).max() < 0.02, expected
    with pytest.raises(InvalidInput, match="does not hold class"):
        load_imagenette_pair("tench", "church", root=tmp_path / "npz")
    (tmp_path / "folders" / "imagenette2" / "train" / wnids[0] / "0.JPEG").write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match="0.JPEG"):
        load_imagenette_pair("tench", "garbage truck", root=tmp_path / "folders")


def test_imagenette_on_disk(imagenette_root):
    pytest.importorskip("PIL.Image")
    data = load_imagenette_pair("tench", "parachute", root=imagenette_root, n_train=20, n_test=10, size=16)
    assert data.X_train.shape == (20, 768) and np.bincount(data.y_train).tolist() == [10, 10]


def test_missing_pillow_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(InvalidInput, match=r"learningcurves\[images\]"):
        readers.pillow()


@pytest.fixture
def problem():
    return poison(load_digits_pair(7, 1), RandomPatch(2), 0.1)


def test_npz_round_trip(tmp_path, problem):
    path = save_npz(tmp_path / "p.npz", problem)
    again = load_npz(path)
    assert isinstance(again, BackdoorProblem)
    for name in ("X_clean", "y_clean", "X_backdoor", "y_backdoor", "X_triggered", "y_triggered", "y_source"):
        np.testing.assert_array_equal(getattr(again, name), getattr(problem, name))
    assert again.image_shape == (1, 8, 8) and again.value_range == (0.0, 1.0) and again.class_names == ("7", "1")
    data = load_dataset(f"npz:{save_npz(tmp_path / 'd.npz', load_digits_pair(7, 1))}", seed=3)
    assert isinstance(data, Dataset) and data.name == "npz:d.npz" and data.class_names == ("7", "1")
    np.testing.assert_array_equal(data.X_test, load_digits_pair(7, 1).X_test)


def test_npz_of_integer_images_needs_a_range(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "i.npz"
    X, y = rng.integers(0, 256, (6, 4, 4), np.uint8), np.array([0, 1] * 3)
    np.savez(path, X_train=X, y_train=y, X_test=X, y_test=y)
    with pytest.raises(InvalidInput, match="value_range"):
        load_npz(path)
    np.testing.assert_array_equal(load_npz(path, value_range=(0, 255)).X_train, X.reshape(6, 16) / 255)


def test_bad_npz(tmp_path, problem):
    path = tmp_path / "p.npz"
    with pytest.raises(InvalidInput, match="is no file"):
        load_npz(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_npz(path)
    whole = save_npz(path, problem).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_npz(path)
    damaged = bytearray(whole)
    damaged[300:400] = b"x" * 100
    path.write_bytes(bytes(damaged))
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_npz(path)
    arrays = dict(np.load(save_npz(path, problem)))
    np.savez(path, **{k: v for k, v in arrays.items() if k != "X_test"})
    with pytest.raises(InvalidInput, match="lacks `X_test`"):
        load_npz(path)
    np.savez(path, **arrays, X_extra=np.zeros(2))
    with pytest.raises(InvalidInput, match="unknown `X_extra`"):
        load_npz(path)
    np.savez(path, **{**arrays, "X_test": np.array([Harmful()])}, allow_pickle=True)
    with pytest.raises(InvalidInput, match="`X_test`.*cannot be read"):
        load_npz(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InvalidInput, match="one array"):
        load_npz(tmp_path / "one.npy")


def test_datasets_by_name():
    assert load_dataset("digits:7-1", seed=2, n_train=40, draw=None).X_train.shape == (40, 64)
    assert len(load_dataset("synthetic:5", n_train=50).y_train) == 50
    np.testing.assert_array_equal(load_dataset("digits:7-1").X_train, load_digits_pair(7, 1).X_train)


@pytest.mark.parametrize(
    "spec", ["", "digit:7-1", "digits:7", "digits:7-x", "npz:", "synthetic:x", "synthetic:1", 7, None, "mnist:7-12"]
)
def test_bad_names(spec):
    with pytest.raises(InvalidInput):
        load_dataset(spec)


def test_unknown_option_of_a_name():
    with pytest.raises(InvalidInput, match="does not take `size`"):
        load_dataset("digits:7-1", size=3)


def test_images_are_resized_by_blocks_and_by_repeats(mnist_root):
    whole, half, twice = (
        load_mnist_pair(7, 1, root=mnist_root, n_train=20, n_test=10, size=size) for size in (None, 14, 56)
    )
    assert (half.image_shape, twice.image_shape) == ((1, 14, 14), (1, 56, 56))
    image, small, large = (d.X_train[3].reshape(d.image_shape[1:]) for d in (whole, half, twice))
    for r, c in ((0, 0), (7, 6), (13, 13)):
        np.testing.assert_allclose(small[r, c], image[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean(), rtol=1e-15)
    np.testing.assert_array_equal(large, np.kron(image, np.ones((2, 2))))
    assert half.provenance["size"] == 14 and "size" not in whole.provenance
    with pytest.raises(InvalidInput, match="`size=10` neither divides the side of images of 28x28"):
        load_mnist_pair(7, 1, root=mnist_root, n_train=20, size=10)
    assert load_dataset("mnist:7-1", root=mnist_root, n_train=20, n_test=10, size=7).image_shape == (1, 7, 7)
