"""MobileNetV2 from 8-bit weights: recognises photographs; any size, grey and colour; the same in any chunks."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from learningcurves.data import readers  # noqa: E402
from learningcurves.errors import InvalidInput  # noqa: E402
from learningcurves.networks import FeatureExtractor, MobileNetV2, MobileNetV2Features, find_head  # noqa: E402

pytestmark = pytest.mark.usefixtures("global_random_state_untouched")

NAME = "mobilenet_v2_imagenet_int8.safetensors"
IMAGENET_CLASS = np.array([0, 482, 497, 566, 569, 701])  # of the six classes in the file


@pytest.fixture(scope="module")
def weights(imagenette_root):
    for folder in (imagenette_root / "weights", imagenette_root.parent / "weights"):
        if (folder / NAME).is_file():
            return folder / NAME
    pytest.skip(f"needs {NAME} beside the data folder")


@pytest.fixture(scope="module")
def photographs(imagenette_root):
    pytest.importorskip("PIL")
    with np.load(imagenette_root / "imagenette" / "val.npz") as archive:
        content, offset, label = archive["jpeg"].tobytes(), archive["offset"], archive["label"]
    rows = np.concatenate([np.flatnonzero(label == c)[:4] for c in range(6)])
    images = [readers.jpeg_to_array(content[offset[i] : offset[i + 1]], 112, "val") for i in rows]
    return np.stack(images).transpose(0, 3, 1, 2) / 255, IMAGENET_CLASS[label[rows]] + 1


def test_it_recognises_photographs(weights, photographs):
    X, classes = photographs
    logits = MobileNetV2Features(weights, size=224).logits(X)
    # the photographs have 112 pixels a side: on 700 of them 58 % are right among all 1001 classes, 83 % among the first
    # five, and 95 % (of 102) among the six classes at hand
    assert (logits.argmax(1) == classes).mean() > 0.4
    assert (np.argsort(logits, axis=1)[:, -5:] == classes[:, None]).any(1).mean() > 0.65
    six = IMAGENET_CLASS + 1
    assert (six[logits[:, six].argmax(1)] == classes).mean() > 0.85


def test_features_do_not_depend_on_chunks_or_layout(weights, photographs):
    X = photographs[0][:5]
    extractor = MobileNetV2Features(weights, size=96)
    one = extractor.features(X)
    assert one.shape == (5, 1280) and one.dtype == np.float32 and one.min() >= 0
    np.testing.assert_array_equal(extractor.features(X), one)
    rows = MobileNetV2Features(weights, size=96, batch_size=2).features(X.reshape(5, -1), (3, 112, 112))
    np.testing.assert_allclose(rows, one, rtol=1e-5, atol=1e-5 * one.max())


def test_sizes_and_grey_images(weights):
    extractor = MobileNetV2Features(weights, size=96)
    grey = np.random.default_rng(0).random((2, 1, 8, 8))
    np.testing.assert_array_equal(extractor.features(grey), extractor.features(np.repeat(grey, 3, axis=1)))
    assert extractor.features(np.random.default_rng(1).random((1, 3, 130, 100))).shape == (1, 1280)


def test_extractor_by_name(weights, photographs, tmp_path):
    extractor = FeatureExtractor("mobilenet_v2", weights, size=96)
    found = extractor.transform(photographs[0][:3], cache=tmp_path)
    np.testing.assert_array_equal(found, MobileNetV2Features(weights, size=96).features(photographs[0][:3]))
    assert extractor.facts["weights_sha256"].startswith("98994dafa640")
    assert "96x96" in extractor.facts["preprocessing"]


def test_bad_images_are_named(weights, tmp_path):
    extractor = MobileNetV2Features(weights)
    for X, shape, message in [
        (np.zeros((2, 12)), None, "image_shape"),
        (np.zeros((2, 12)), (3, 3, 3), "does not fit"),
        (np.zeros((2, 2, 4, 4)), None, "expected"),
        (np.full((1, 3, 4, 4), 255.0), None, "must be in"),
        (np.full((1, 3, 4, 4), np.nan), None, "must be in"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            extractor.features(X, shape)
    with pytest.raises(InvalidInput, match="multiple of 32"):
        MobileNetV2Features(weights, size=100)
    with pytest.raises(InvalidInput, match="not a file"):
        MobileNetV2Features(tmp_path / "absent")


def test_architecture():
    with torch.random.fork_rng(devices=[]):
        network = MobileNetV2(10).eval()
    # the published network has 3,504,872 parameters for 1000 classes, of which 34,112 belong to batch norms; folding
    # leaves one bias a channel, half of them
    assert sum(p.numel() for p in network.body.parameters()) == 3_504_872 - 1_281_000 - 34_112 // 2
    assert find_head(network, np.zeros((1, 3, 32, 32))).name == "head"
