"""Heads and features: against hooks by hand, for every kind of source, and what is refused."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from learningcurves.data.problem import Dataset  # noqa: E402
from learningcurves.errors import InvalidInput, LearningCurvesError, NotSupported  # noqa: E402
from learningcurves.networks import (  # noqa: E402
    FeatureExtractor,
    ResNet18,
    SmallCNN,
    extract_features,
    find_head,
)


class Noisy(nn.Module):
    """A network with one peculiarity."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.body = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5, track_running_stats=False)
        self.head = nn.Linear(5, 5 if kind == "tied" else 3)
        if kind == "tied":
            self.other = nn.Linear(5, 5)
            self.other.weight = self.head.weight
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.body(x)
        if self.kind == "dropout":
            x = F.dropout(x, 0.5, training=True)
        if self.kind == "counting":
            x = x + self.calls
        if self.kind == "batch":
            x = self.norm(x)
        if self.kind == "tied":
            x = self.other(x)
        if self.kind == "softmax":
            return self.head(x).softmax(1)
        if self.kind == "twice":
            return self.head(x) + self.head(x**2)
        if self.kind == "positions":
            return self.head(x.unsqueeze(1)).squeeze(1)
        if self.kind == "relu in place":
            return self.head(x).relu_()
        if self.kind == "pair":
            return self.head(x), x
        if self.kind == "in place":
            out = self.head(x)
            x.zero_()
            return out
        return self.head(x)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(20, 6))


def test_features_are_what_a_hook_sees(problem, make_cnn, global_random_state_untouched):
    cnn = make_cnn().train()
    cnn.blocks[0].eval()  # modes that differ between parts must come back
    modes = [part.training for part in cnn.modules()]
    state = {name: value.clone() for name, value in cnn.state_dict().items()}
    found = extract_features(cnn, problem.X_clean, image_shape=(1, 8, 8))
    assert [part.training for part in cnn.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in cnn.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in cnn.modules())
    seen = []
    cnn.eval().head.register_forward_hook(lambda m, inputs, out: seen.append(inputs[0]))
    cnn(torch.tensor(problem.X_clean, dtype=torch.float32).reshape(-1, 1, 8, 8))
    np.testing.assert_allclose(found.X, seen[0].detach().numpy(), rtol=1e-5, atol=1e-6)
    assert found.X.dtype == np.float32 and found.X.shape == (problem.n_clean, 16)
    assert found.head == "head" and found.network.startswith("SmallCNN ")


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_any_chunk_size_gives_the_same(problem, batch_size):
    with torch.random.fork_rng(devices=[]):
        resnet = ResNet18(10, width=4, in_channels=1)
    whole = extract_features(resnet, problem.X_clean, image_shape=(1, 8, 8)).X
    chunked = extract_features(resnet, problem.X_clean, image_shape=(1, 8, 8), batch_size=batch_size).X
    np.testing.assert_allclose(chunked, whole, rtol=1e-6, atol=1e-6 * np.abs(whole).max())


def test_sources_give_the_same_features_with_their_labels(problem, make_cnn, global_random_state_untouched):
    cnn = make_cnn()
    images = torch.tensor(problem.X_clean, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(problem.y_clean)
    expected = extract_features(cnn, images).X
    data = TensorDataset(images, labels)
    for source in ((images, labels), (images.numpy(), problem.y_clean), data, DataLoader(data, batch_size=50)):
        found = extract_features(cnn, source, batch_size=33)
        np.testing.assert_allclose(found.X, expected, atol=1e-6)
        np.testing.assert_array_equal(found.y, problem.y_clean)
    shuffled = extract_features(cnn, DataLoader(data, batch_size=16, shuffle=True))
    assert not np.allclose(shuffled.X, expected, atol=1e-6)
    order = [int(np.abs(expected - row).sum(1).argmin()) for row in shuffled.X]
    np.testing.assert_array_equal(shuffled.y, problem.y_clean[order])
    assert extract_features(cnn, DataLoader(TensorDataset(images))).y is None


def test_containers_come_back_with_features(problem, make_cnn):
    cnn = make_cnn()
    found = extract_features(cnn, problem)
    assert type(found) is type(problem) and found.n_features == 16 and found.image_shape is None
    np.testing.assert_array_equal(found.y_triggered, problem.y_triggered)
    np.testing.assert_array_equal(found.y_source, problem.y_source)
    assert found.provenance["features"]["network"].startswith("SmallCNN")
    data = Dataset(problem.X_clean, problem.y_clean, problem.X_test, problem.y_test, image_shape=(1, 8, 8))
    np.testing.assert_array_equal(extract_features(cnn, data).X_train, found.X_clean)


def test_double_precision_and_half_precision(X):
    plain = Noisy("plain")
    assert extract_features(plain.double(), X).X.dtype == np.float64
    assert extract_features(plain.bfloat16(), X).X.dtype == np.float32


def test_linear_networks_get_rows(problem):
    mlp = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10, bias=False))
    assert extract_features(mlp, problem).n_features == 8
    assert find_head(mlp, problem).linear is mlp[2]


def test_head_on_flattened_convolutions(problem):
    cnn = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))
    assert find_head(cnn, problem).name == "3"
    assert extract_features(cnn, problem).n_features == 72


def test_values_changed_in_place_after_the_head_do_not_reach_the_features(X):
    module = Noisy("in place")
    expected = module.body(torch.tensor(X, dtype=torch.float32)).detach()
    np.testing.assert_allclose(extract_features(module, X).X, expected, rtol=1e-5, atol=1e-6)


def test_tied_heads_are_told(X):
    assert find_head(Noisy("tied"), X).tied == ("other.weight",)
    assert find_head(Noisy("plain"), X).tied == ()


def test_a_head_can_be_named(X):
    module = Noisy("softmax")
    with pytest.raises(InvalidInput, match="'head', is followed by other operations"):
        find_head(module, X)
    head = find_head(module, X, head="head")
    assert head.linear is module.head and not head.is_output
    assert extract_features(module, X, head="body").X.shape == (20, 6)
    with pytest.raises(InvalidInput, match="it has: 'body', 'head'"):
        find_head(module, X, head="fc")


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("dropout", InvalidInput, "changes between two calls has no features"),
        ("counting", InvalidInput, "changes between two calls has no features"),
        ("batch", InvalidInput, "depend on the other samples"),
        ("twice", InvalidInput, "followed by other operations"),
        ("relu in place", InvalidInput, "followed by other operations"),
        ("positions", NotSupported, "one vector a sample"),
        ("pair", NotSupported, "returns a tuple"),
    ],
)
def test_modules_without_features_are_refused(X, kind, error, message):
    with pytest.raises(error, match=message):
        extract_features(Noisy(kind), X)
    if kind == "twice":
        with pytest.raises(NotSupported, match="runs 2 times"):
            find_head(Noisy(kind), X, head="head")


def test_dropout_in_eval_mode_is_fine(X):
    module = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    extract_features(module, X)
    assert module.training


def test_bad_samples_are_named(X):
    module = Noisy("plain")
    for samples, message in [
        (X[:0], "no samples"),
        (np.where(X > 2, np.nan, X * 1), "NaN") if (X > 2).any() else (X * np.inf, "infinite"),
        ((X, np.zeros(3)), "20 samples and 3 labels"),
        (X.astype(str), "dtype"),
        ((X * 10).astype(np.uint8), "holds bytes"),
    ]:
        with pytest.raises(LearningCurvesError, match=message):
            extract_features(module, samples)
    with pytest.raises(NotSupported, match="torch.nn.Module"):
        extract_features(lambda x: x, X)
    with pytest.raises(InvalidInput, match="no linear layer"):
        find_head(nn.Sequential(nn.ReLU()), X)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_resnet18_is_the_published_network(stem):
    with torch.random.fork_rng(devices=[]):
        network = ResNet18(1000, stem=stem).eval()
    # torchvision's resnet18 has 11,689,512 parameters; the small stem has 3x3 instead of 7x7 weights in one layer
    expected = 11_689_512 - (0 if stem == "imagenet" else 64 * 3 * (49 - 9))
    assert sum(p.numel() for p in network.parameters()) == expected
    assert len(network.state_dict()) == 122
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


def test_small_cnn_counts_and_refuses():
    with torch.random.fork_rng(devices=[]):
        cnn = SmallCNN((3, 32, 32), 10)
    assert sum(p.numel() for p in cnn.parameters()) == 27 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 2 * 224 + 1290
    for shape in ((8, 8), (1, 2, 8), "abc"):
        with pytest.raises(InvalidInput, match="in_shape"):
            SmallCNN(shape, 10)
    with pytest.raises(InvalidInput, match="n_classes"):
        SmallCNN((1, 8, 8), 0)
    with pytest.raises(InvalidInput, match="stem"):
        ResNet18(10, stem="mnist")


def test_cache_is_keyed_mapped_and_written_whole(problem, make_cnn, tmp_path):
    extractor = FeatureExtractor(make_cnn(), chunk=50)
    first = extractor.transform(problem.X_clean, (1, 8, 8), cache=tmp_path)
    assert isinstance(first, np.memmap) and not first.flags.writeable
    np.testing.assert_allclose(first, extract_features(make_cnn(), problem).X_clean, atol=1e-6)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) == 2 and all(len(n) > 40 for n in names)

    def must_not_run(*_):
        raise AssertionError("computed again")

    again = FeatureExtractor(make_cnn(), chunk=50)
    again._features = must_not_run
    np.testing.assert_array_equal(again.transform(problem.X_clean, (1, 8, 8), cache=tmp_path), first)
    for other, X in ((again, problem.X_clean + 1e-9), (FeatureExtractor(make_cnn(seed=1)), problem.X_clean)):
        other._features = must_not_run  # another input, or other weights: not found
        with pytest.raises(AssertionError, match="computed again"):
            other.transform(X, (1, 8, 8), cache=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == names  # the failed attempts left nothing
    array = next(tmp_path.glob("*.npy"))
    expected = np.array(first)
    del first
    array.write_bytes(array.read_bytes()[:-100])  # cut short: made again
    np.testing.assert_array_equal(extractor.transform(problem.X_clean, (1, 8, 8), cache=tmp_path), expected)


def test_extractor_transforms_a_problem(problem, make_cnn, tmp_path):
    extractor = FeatureExtractor(make_cnn())
    found = extractor.transform_problem(problem, cache=tmp_path)
    assert found.n_features == 16 and found.provenance["features"]["extractor"] == extractor.name
    assert len(list(tmp_path.glob("*.npy"))) == 4
    rows = Dataset(problem.X_clean.copy(), problem.y_clean, problem.X_test, problem.y_test)
    with pytest.raises(InvalidInput, match="image_shape"):
        extractor.transform_problem(rows)
    with pytest.raises(NotSupported, match="expected a Dataset"):
        extractor.transform_problem(problem.X_clean)
    with pytest.raises(InvalidInput, match="`network='alexnet'`"):
        FeatureExtractor("alexnet")
    with pytest.raises(InvalidInput, match="`weights` is missing"):
        FeatureExtractor("mobilenet_v2")
