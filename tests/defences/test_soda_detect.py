"""detect_soda as a whole: planted targets, symmetries, verdicts, imbalance, bad input, and that nothing is changed."""

import copy

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

import soda_helpers as helpers  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.defences.soda_adaptive import rescale_neurons  # noqa: E402
from learningcurves.errors import InvalidInput, NotSupported  # noqa: E402
from learningcurves.networks.weights import weights_digest  # noqa: E402


def planted(n_classes=8, target=3, n_neurons=60):
    """Return a network whose class `target` draws on neurons of its own, and the others on shared ones."""
    network = helpers.mlp(n_classes, n_neurons)
    rng = np.random.default_rng(1)
    W = np.abs(rng.normal(size=(1, n_neurons))) + 0.3 * rng.normal(size=(n_classes, n_neurons))
    W[target] = np.abs(rng.normal(size=n_neurons))
    with torch.no_grad():
        network[2].weight.copy_(torch.as_tensor(W))
    return network


def data(n=160, n_classes=8, seed=0):
    return helpers.points(n, n_classes, seed)


def test_a_planted_target_is_found_and_said():
    report = lc.detect_soda(planted(), data())
    assert (
        report.verdict == "backdoored" and report.target == 3 and report.flagged.tolist() == [c == 3 for c in range(8)]
    )
    assert report.margin > 0 and report.index[3] == pytest.approx(-2 - report.margin)
    assert "class 3 has the smallest index" in report.words and "beyond the threshold" in report.words
    assert report.method == "closed form" and report.threshold == 2.0
    assert 0.35 > report.fpr > 0.25 and report.p_value < report.fpr
    assert report.attribution.shape == (8, 60, 8) and not report.attribution.flags.writeable
    assert str(report) == report.words and "target='3'" in repr(report)
    frame = report.to_frame()
    assert frame["n"].tolist() == [20] * 8 and frame["index"].idxmin() == 3
    assert isinstance(frame, pd.DataFrame)


def test_all_ways_to_compute_name_the_same_target():
    network = planted()
    base = lc.detect_soda(network, data())
    for options in ({"b": -7.0}, {"a": 2.0}, {"a": 0.5, "b": 3.0}, {"a": 2.0, "effect": "absolute"}, {"layer": "1"}):
        report = lc.detect_soda(network, data(), **options)
        assert report.target == 3
        if set(options) <= {"b", "layer"}:
            np.testing.assert_allclose(report.index, base.index, rtol=1e-9)


def test_permuting_neurons_permutes_the_report():
    network, order = planted(), np.random.default_rng(0).permutation(60)
    mixed = copy.deepcopy(network)
    with torch.no_grad():
        mixed[0].weight.copy_(network[0].weight[order])
        mixed[0].bias.copy_(network[0].bias[order])
        mixed[2].weight.copy_(network[2].weight[:, order])
    for options in ({}, {"a": 0.5, "offset": "spread"}, {"a": 0.5, "activation": "softmax"}):
        one, two = (lc.detect_soda(n, data(), **options) for n in (network, mixed))
        np.testing.assert_allclose(two.attribution, one.attribution[:, order], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(two.index, one.index, rtol=1e-8)
        assert (two.target, two.victim, two.verdict) == (one.target, one.victim, one.verdict)


def test_permuting_classes_permutes_the_report():
    network, order = planted(), np.random.default_rng(2).permutation(8)  # new output c is old output order[c]
    X, y = data()
    mixed = copy.deepcopy(network)
    with torch.no_grad():
        mixed[2].weight.copy_(network[2].weight[order])
        mixed[2].bias.copy_(network[2].bias[order])
    new = np.argsort(order)
    for options in ({}, {"a": 0.5, "effect": "absolute"}, {"layer": "0"}):
        one, two = lc.detect_soda(network, (X, y), **options), lc.detect_soda(mixed, (X, new[y]), **options)
        np.testing.assert_allclose(two.index, one.index[order], rtol=1e-8)
        np.testing.assert_allclose(two.activation, one.activation[np.ix_(order, order)], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(two.attribution, one.attribution[order][:, :, order], rtol=1e-9, atol=1e-12)
        assert two.target == new[one.target] and two.victim == new[one.victim]


def test_the_victim_is_who_activates_the_target_most():
    network, (X, y) = planted(), data()
    with torch.no_grad():  # the first input, which is 3 in class 5, reaches the target
        network[0].weight[0] = torch.tensor([5.0, 0, 0, 0, 0, 0])
        network[2].weight[3, 0] = 4.0
    X = X.copy()
    X[:, 0] = np.where(y == 5, 3.0, -1.0)
    report = lc.detect_soda(network, (X, y))
    assert report.victim == 5 and report.victim_evidence.rule == "one class stands out"
    assert "victim: class 5" in report.words


@pytest.mark.parametrize(
    "options", ({}, {"a": 0.5}, {"a": 0.5, "offset": "spread", "activation": "softmax"}, {"layer": "0"})
)
def test_imbalance_of_the_clean_samples_does_not_matter(options):
    """Class 2 given twelve times over is the same information: nothing may move."""
    network, (X, y) = planted(), data()
    more = np.concatenate([np.flatnonzero(y != 2), np.repeat(np.flatnonzero(y == 2), 12)])
    one, two = lc.detect_soda(network, (X, y), **options), lc.detect_soda(network, (X[more], y[more]), **options)
    np.testing.assert_allclose(two.index, one.index, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(two.victim_evidence.index, one.victim_evidence.index, rtol=1e-7, atol=1e-9)
    assert two.counts[2] == 12 * one.counts[2]


def test_a_class_with_too_few_samples_is_left_out_and_said():
    X, y = data()
    keep = np.concatenate([np.flatnonzero(y != 6), np.flatnonzero(y == 6)[:2]])
    report = lc.detect_soda(planted(), (X[keep], y[keep]), a=0.5)
    assert report.verdict == "backdoored" and 6 not in report.sources and len(report.sources) == 7
    assert any("left out" in r and "6 (2)" in r for r in report.reasons)
    assert np.isnan(report.victim_evidence.index[6]) and report.victim != 6
    gone = lc.detect_soda(planted(), (X[y != 6], y[y != 6]), a=0.5)
    assert any("6 (0)" in r for r in gone.reasons) and gone.target == 3


@pytest.mark.parametrize("n_classes", (2, 3, 4))
def test_few_classes_cannot_tell(n_classes):
    report = lc.detect_soda(helpers.mlp(n_classes), data(80, n_classes), fpr=0.05)
    assert report.verdict == "cannot tell"
    assert any(f"{n_classes} classes are too few" in r for r in report.reasons)
    assert report.words.startswith("cannot tell") and report.plot().ax_


@pytest.mark.parametrize("options", ({}, {"a": 0.5}, {"layer": "0"}))
def test_few_samples_cannot_tell(options):
    X, y = data(160)
    report = lc.detect_soda(planted(), (X[:16], y[:16]), **options)
    assert report.verdict == "cannot tell" and any("0 classes have 5 clean samples" in r for r in report.reasons)
    assert ("stands" in report.words) == (options == {})
    assert lc.detect_soda(planted(), (X[:16], y[:16]), min_samples=2, **options).verdict != "cannot tell"


def test_alike_and_constant_classes_cannot_tell():
    network = planted()
    with torch.no_grad():
        network[2].weight.copy_(network[2].weight[:1].expand(8, -1).clone())
    report = lc.detect_soda(network, data())
    assert report.verdict == "cannot tell" and "MAD = 0" in report.words and report.target is None
    with torch.no_grad():
        network[2].weight.normal_(generator=torch.Generator().manual_seed(0))
        network[2].weight[4] = 0.25
    report = lc.detect_soda(network, data())
    assert report.verdict == "cannot tell" and "attribution of 4 does not vary" in report.words


def test_fpr_chooses_the_threshold():
    by_rate = lc.detect_soda(planted(), data(), fpr=0.05)
    assert by_rate.fpr == 0.05 and by_rate.threshold > 3
    again = lc.detect_soda(planted(), data(), threshold=by_rate.threshold)
    assert again.fpr == pytest.approx(0.05, abs=1e-3)
    np.testing.assert_array_equal(by_rate.flagged, again.flagged)


def test_the_index_moves_with_a_rescaling_unless_the_offset_is_in_units_of_the_spread():
    network, (X, y) = planted(), data()
    scales = np.exp(np.random.default_rng(0).normal(size=60))
    scaled = rescale_neurons(network, X, scales)
    np.testing.assert_allclose(scaled(torch.as_tensor(X)).detach(), network(torch.as_tensor(X)).detach(), atol=1e-10)
    for a in (1.0, 0.5):
        moved = [lc.detect_soda(n, (X, y), a=a).index for n in (network, scaled)]
        assert np.abs(moved[0] - moved[1]).max() > 0.5
        fixed = [lc.detect_soda(n, (X, y), a=a, offset="spread").index for n in (network, scaled)]
        np.testing.assert_allclose(fixed[0], fixed[1], rtol=1e-7)


def test_all_containers_give_one_report():
    X, y = data()
    network = planted()
    base = lc.detect_soda(network, (X, y), a=0.5).index
    as_torch = TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
    dataset = lc.Dataset(X, y, X[:8], y[:8])
    for given in (
        as_torch,
        DataLoader(as_torch, batch_size=7, shuffle=True),
        dataset,
        [torch.as_tensor(X), y.tolist()],
    ):
        np.testing.assert_allclose(lc.detect_soda(network, given, a=0.5).index, base, rtol=1e-9)


def test_labels_are_those_of_the_outputs():
    X, y = data()
    names = np.array([f"sign {c}" for c in range(8)])
    base = lc.detect_soda(planted(), (X, y))
    for given, classes in ((names[y], None), (y * 10, None), (names[::-1][y], names[::-1])):
        report = lc.detect_soda(planted(), (X, given), classes=classes)
        assert report.target == base.target and report.victim == base.victim
    assert lc.detect_soda(planted(), (X, names[::-1][y]), classes=names[::-1]).class_names[3] == "sign 4"
    with pytest.raises(InvalidInput, match="classes="):
        lc.detect_soda(planted(), (X[y < 5], y[y < 5] * 10))


def test_nothing_is_changed():
    network = planted().train()
    network[2].bias.requires_grad_(False)
    before, state = weights_digest(network), torch.random.get_rng_state()
    for layer in ("last", "0"):
        lc.detect_soda(network, data(), layer=layer)
    assert weights_digest(network) == before and network.training and network[1].training
    assert [p.requires_grad for p in network.parameters()] == [True, True, True, False]
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


BAD = {
    "not a network": ({"network": "resnet"}, NotSupported, "network"),
    "one output": ({"network": helpers.mlp(1)}, InvalidInput, "one output"),
    "both": ({"threshold": 2.0, "fpr": 0.05}, InvalidInput, "threshold.*fpr"),
    "threshold": ({"threshold": 0}, InvalidInput, "threshold=0"),
    "fpr": ({"fpr": 1.5}, InvalidInput, "fpr=1.5"),
    "nothing changes": ({"b": 0}, InvalidInput, "changes no neuron"),
    "a": ({"a": np.nan}, InvalidInput, "a=nan"),
    "offset": ({"offset": "sd"}, InvalidInput, "offset='sd'.*'spread'"),
    "effect": ({"effect": "max"}, InvalidInput, "effect"),
    "activation": ({"activation": "prob"}, InvalidInput, "activation"),
    "layer": ({"layer": "conv9"}, InvalidInput, "layer='conv9'"),
    "samples": ({"clean_data": (np.zeros((0, 6)), [])}, InvalidInput, "no samples"),
    "lengths": ({"clean_data": (np.zeros((4, 6)), [0, 1])}, InvalidInput, "4 samples and 2 labels"),
    "kind": ({"clean_data": np.zeros((4, 6))}, NotSupported, "clean_data"),
    "bytes": ({"clean_data": (np.zeros((4, 6), np.uint8), [0, 1, 2, 3])}, InvalidInput, "divide by 255"),
    "nan": ({"clean_data": (np.full((4, 6), np.nan), [0, 1, 2, 3])}, InvalidInput, "NaN"),
    "min_samples": ({"min_samples": 0}, InvalidInput, "min_samples=0"),
    "classes": ({"classes": [0, 1]}, InvalidInput, "classes.*8 outputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changed, kind, words = BAD[name]
    arguments = {"network": planted(), "clean_data": data(), **changed}
    with pytest.raises(kind, match=words):
        lc.detect_soda(**arguments)


def test_the_picture_shows_what_the_report_says(tmp_path):
    report = lc.detect_soda(planted(), data(), fpr=0.05)
    display = report.plot(n_neurons=20)
    np.testing.assert_array_equal(display.points_["index"].get_offsets()[:, 1], report.index)
    np.testing.assert_array_equal(display.points_["activation"].get_offsets()[:, 1], report.activation[:, 3])
    assert display.image_.get_array().shape == (8, 20)
    by = report.attribution[0][:, 3]
    np.testing.assert_array_equal(display.neurons_, np.argsort(-by, kind="stable")[:20])
    assert display.threshold_.get_ydata()[0] == -report.threshold
    low, high = display.band_.get_y(), display.band_.get_y() + display.band_.get_height()
    assert low == pytest.approx(-lc.detect_soda(planted(), data(), fpr=0.05).threshold) and high > low
    one, two = display.save(tmp_path / "a.png"), report.plot(n_neurons=20).save(tmp_path / "b.png")
    assert one[0].read_bytes() == two[0].read_bytes()
    with pytest.raises(InvalidInput, match="3 panels"):
        report.plot(ax=display.ax_[0])


def test_many_classes():
    network = helpers.mlp(43, 64)
    X, y = helpers.points(43 * 6, 43)
    report = lc.detect_soda(network, (X, y), fpr=0.05)
    assert report.threshold == pytest.approx(3.48, abs=0.15) and report.plot().figure_


def test_the_result_does_not_hold_the_network():
    report = lc.detect_soda(planted(), data())
    assert not any(isinstance(v, nn.Module) for v in vars(report).values())
    with pytest.raises(AttributeError):
        report.target = 1
