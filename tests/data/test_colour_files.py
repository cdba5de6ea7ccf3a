"""Readers of traffic signs and of digits on photographs: written files, damaged ones, and the real ones where they are."""

import hashlib

import numpy as np
import pytest

from learningcurves.data import readers
from learningcurves.data.arrays import load_dataset
from learningcurves.data.colour_files import GTSRB, load_gtsrb, load_mnist_m
from learningcurves.data.split import DIGITS
from learningcurves.errors import InvalidInput

LOADERS = {"gtsrb": load_gtsrb, "mnist_m": load_mnist_m}


def rows(X):
    return {np.round(row, 6).tobytes() for row in X}


def pictures(n, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def write_coded(folder, images, label):
    """Write both parts as second differences, as the coded sets are kept."""
    planes = images.transpose(3, 0, 1, 2).copy()
    planes[0] -= planes[1]
    planes[2] -= planes[1]
    for axis in (2, 3):
        planes = np.diff(planes, axis=axis, prepend=np.zeros_like(planes[(slice(None),) * axis + (slice(1),)]))
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        np.savez(folder / f"{part}.npz", delta=planes, label=label)


@pytest.fixture
def official(tmp_path):
    """Write both sets as they are released, 8 pictures of two classes in each part, and return the pictures."""
    Image = pytest.importorskip("PIL.Image")
    images = pictures(8)
    signs, digits = tmp_path / "signs" / "GTSRB", tmp_path / "digits" / "mnist_m"
    for place in (signs / "Final_Test/Images", digits / "mnist_m_train", digits / "mnist_m_test"):
        place.mkdir(parents=True)
    signs_lines, digit_lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"], []
    for i, image in enumerate(images):
        picture, sign = Image.fromarray(image), 14 if i % 2 else 13
        track = signs / f"Final_Training/Images/{sign:05d}"
        track.mkdir(parents=True, exist_ok=True)
        picture.save(track / f"00000_{i:05d}.ppm")
        picture.save(signs / f"Final_Test/Images/{i:05d}.ppm")
        signs_lines.append(f"{i:05d}.ppm;8;8;1;1;6;6;{sign}")
        for part in ("train", "test"):
            picture.save(digits / f"mnist_m_{part}/{i:08d}.png")
        digit_lines.append(f"{i:08d}.png {7 if i % 2 else 1}")
    (signs / "GT-final_test.csv").write_text("\n".join(signs_lines) + "\n")
    for part in ("train", "test"):
        (digits / f"mnist_m_{part}_labels.txt").write_text("\n".join(digit_lines) + "\n")
    return tmp_path, images


def test_coded_files(tmp_path, monkeypatch):
    images, label = pictures(12, 32), np.repeat([14, 2, 3], 4).astype(np.uint8)
    for kind, load in LOADERS.items():
        write_coded(tmp_path / kind, images, label)
        data = load((14 if kind == "gtsrb" else 3, 2), root=tmp_path)
        first = images[:4] if kind == "gtsrb" else images[8:]
        assert data.image_shape == (3, 32, 32) and data.provenance["data"] == kind
        assert rows(data.X_train[data.y_train == 0]) == rows(first.transpose(0, 3, 1, 2).reshape(4, -1) / 255)
        assert rows(data.X_test[data.y_test == 1]) == rows(images[4:8].transpose(0, 3, 1, 2).reshape(4, -1) / 255)
        small = load((3, 2), root=tmp_path / kind, n_train=4, size=16)
        assert len(small.y_train) == 4 and small.image_shape == (3, 16, 16)
        with pytest.raises(InvalidInput, match="no sample of class"):
            load((2, 5), root=tmp_path)
    monkeypatch.setenv("LEARNINGCURVES_DATA", str(tmp_path))
    assert load_dataset("gtsrb:stop-speed limit 50").class_names == ("stop", "speed limit 50")
    assert load_dataset("mnist_m:3-2", n_train=4).X_train.shape == (4, 3072)


def test_official_folders(official):
    root, images = official
    for data, names in (
        (load_gtsrb(("yield", "stop"), root=root / "signs", size=8), ("yield", "stop")),
        (load_mnist_m((1, 7), root=root / "digits", size=8), ("1", "7")),
    ):
        assert data.class_names == names and data.image_shape == (3, 8, 8)
        for X, y in ((data.X_train, data.y_train), (data.X_test, data.y_test)):
            for c in (0, 1):
                assert rows(X[y == c]) == rows(images[c::2].transpose(0, 3, 1, 2).reshape(4, -1) / 255)
    assert load_gtsrb(("yield", "stop"), root=root / "signs").image_shape == (3, 32, 32)  # scaled


def test_damaged_official_folders(official):
    root, _ = official
    table, digits = root / "signs/GTSRB/GT-final_test.csv", root / "digits/mnist_m/mnist_m_test_labels.txt"
    text = table.read_text()
    table.write_text(text.replace("00003.ppm;8", "00009.ppm;8"))
    with pytest.raises(InvalidInput, match="00009.ppm` is missing"):
        load_gtsrb(("yield", "stop"), root=root / "signs")
    table.write_text(text.replace(";6;13", ";6;x", 1))
    with pytest.raises(InvalidInput, match="line 2: .*no picture with a label"):
        load_gtsrb(("yield", "stop"), root=root / "signs")
    table.unlink()
    with pytest.raises(InvalidInput, match="put GT-final_test.csv into"):
        load_gtsrb(("yield", "stop"), root=root / "signs")
    digits.write_text("00000000.png\n")
    with pytest.raises(InvalidInput, match="line 1"):
        load_mnist_m((1, 7), root=root / "digits")
    (root / "signs/GTSRB/Final_Training/Images/00014/00000_00001.ppm").write_bytes(b"P6 no picture")
    table.write_text(text)
    with pytest.raises(InvalidInput, match=r"00000_00001.ppm"):
        load_gtsrb(("yield", "stop"), root=root / "signs")


def test_damaged_coded_files(tmp_path):
    write_coded(tmp_path, pictures(8, 32), np.repeat([2, 3], 4).astype(np.uint8))
    held = dict(np.load(tmp_path / "train.npz"))
    for changed, says in (
        ({"delta": held["delta"][:, :-1]}, "expected uint8"),
        ({"delta": held["delta"].astype(np.int16)}, "expected uint8"),
        ({"delta": np.array([{}])}, "cannot be read"),
    ):
        np.savez(tmp_path / "train.npz", **{**held, **changed})
        for load in LOADERS.values():
            with pytest.raises(InvalidInput, match=says):
                load((2, 3), root=tmp_path)


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_missing_files_and_unknown_classes(load, tmp_path, monkeypatch):
    monkeypatch.setenv("LEARNINGCURVES_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InvalidInput, match="nowhere"):
        load()
    for classes in (("zebra", 1), (1,), (1, 1), "stop", (1, 43)):
        with pytest.raises(InvalidInput, match="classes|not one of"):
            load(classes, root=tmp_path)
    with pytest.raises(InvalidInput, match="root="):
        load((1, 2), root=tmp_path)


def test_there_are_43_signs():
    assert list(GTSRB.values()) == list(range(43)) and len(DIGITS) == 10


def test_gtsrb_on_disk(gtsrb_root):
    digests = {
        "train": "8f39ca0ef1f1b811a7a7e6c6d1a48128ac72fada00100327e1984390630c70e1",
        "test": "eadbdedb4b00ac8738f8f2e898694f858d54fe8ff32eceec6d1d4825c3692ceb",
    }
    for part, digest in digests.items():
        images, label = readers.read_delta_npz(gtsrb_root / "gtsrb" / f"{part}.npz")
        assert hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest() == digest
        assert np.bincount(label).tolist() == [60 if part == "train" else 30] * 43
    data = load_gtsrb(root=gtsrb_root, n_train=86)
    assert data.image_shape == (3, 32, 32) and np.bincount(data.y_train).tolist() == [2] * 43
    # what the names say: no entry is the reddest sign, keep right the bluest
    red, _, blue = load_gtsrb(root=gtsrb_root).X_train.reshape(-1, 3, 32, 32)[:, :, 8:24, 8:24].mean(axis=(2, 3)).T
    hue = [
        np.mean((red - blue)[load_gtsrb(root=gtsrb_root).y_train == GTSRB[name]]) for name in ("no entry", "keep right")
    ]
    assert hue[0] > 0.05 and hue[1] < -0.05


def test_mnist_m_on_disk(mnist_m_root, mnist_root):
    images, label = readers.read_delta_npz(mnist_m_root / "mnist_m" / "test.npz")
    digest = "b43d6872f5172519615c79ca6ffbfe2c7f7f3580e0f7ee8440bb23106587b7d7"
    assert hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest() == digest
    with readers.open_npz(mnist_m_root / "mnist_m" / "test.npz") as archive:
        index = archive["mnist_index"]
    assert (readers.read_idx(mnist_root / "mnist" / "t10k-labels-idx1-ubyte.gz")[index] == label).all()
    assert load_mnist_m((7, 1), root=mnist_m_root, n_train=40, n_test=20).X_train.shape == (40, 3072)
