"""Causal attribution: the closed form against interventions by hand where it holds, and refused where it does not."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import soda_helpers as helpers  # noqa: E402
from torch import nn  # noqa: E402

from learningcurves.defences import tail as tail_module  # noqa: E402
from learningcurves.defences.clean_samples import clean_samples  # noqa: E402
from learningcurves.defences.soda_attribution import causal_attribution, class_means  # noqa: E402
from learningcurves.defences.tail import make_tail  # noqa: E402
from learningcurves.errors import InvalidInput, NotSupported  # noqa: E402
from learningcurves.networks import ResNet18, SmallCNN  # noqa: E402


def batch_norm():
    norm = nn.BatchNorm1d(8)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


class Gate(nn.Module):
    def forward(self, h):
        return h * torch.sigmoid(h)


class Square(nn.Module):
    def forward(self, h):
        return h * h


class Cosine(nn.Module):
    """A head on normalised features."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, 8))

    def forward(self, h):
        return nn.functional.normalize(h, dim=1) @ nn.functional.normalize(self.weight, dim=1).T


class Attention(nn.Module):
    def forward(self, h):
        tokens = h.reshape(len(h), 4, 2)
        return (torch.softmax(tokens @ tokens.transpose(1, 2), -1) @ tokens).flatten(1)


class InPlace(nn.Module):
    def forward(self, h):
        return h.add_(1.0).clamp_(min=0.3)


class Branch(nn.Module):
    """Python that looks at the numbers."""

    def forward(self, h):
        return h if float(h.detach().sum()) > 0 else -h


# everything after the layer, which is 8 neurons wide
AFFINE = {
    "linear": lambda: [nn.Linear(8, 7)],
    "no bias": lambda: [nn.Linear(8, 7, bias=False)],
    "linear after linear": lambda: [nn.Linear(8, 5), nn.Linear(5, 7)],
    "batch norm": lambda: [batch_norm(), nn.Linear(8, 7)],
    "dropout": lambda: [nn.Dropout(0.5), nn.Linear(8, 7)],
    "average pool": lambda: [nn.Unflatten(1, (2, 2, 2)), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 7)],
    "convolution": lambda: [nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 3, 2, padding=1), nn.Flatten(), nn.Linear(27, 7)],
    "global mean": lambda: [nn.Unflatten(1, (4, 2, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)],
}
NOT_AFFINE = {
    "relu": lambda: [nn.ReLU(), nn.Linear(8, 7)],
    "relu between": lambda: [nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 7)],
    "max pool": lambda: [nn.Unflatten(1, (2, 2, 2)), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 7)],
    "layer norm": lambda: [nn.LayerNorm(8), nn.Linear(8, 7)],
    "softmax": lambda: [nn.Linear(8, 7), nn.Softmax(1)],
    "gate": lambda: [Gate(), nn.Linear(8, 7)],
    "square": lambda: [Square(), nn.Linear(8, 7)],
    "cosine": lambda: [Cosine()],
    "attention": lambda: [Attention(), nn.Linear(8, 7)],
    "in place": lambda: [InPlace(), nn.Linear(8, 7)],
    "python": lambda: [Branch(), nn.Linear(8, 7)],
}


def network_of(after):
    return helpers.seeded(lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), *after()).double()).eval()


def attribution(network, layer, *, effect="mean", activation="logit", offset="constant", a=1.0, b=1.0, n=63, **kw):
    samples = clean_samples(network, helpers.points(n))
    tail = make_tail(network, samples.X, layer)
    found = causal_attribution(
        tail, samples, range(7), a=a, b=b, offset=offset, effect=effect, activation=activation, **kw
    )
    return found, tail


def wanted(network, *, n=63, b=1.0, spread=None, **options):
    X, y = helpers.points(n)
    return helpers.by_hand(network[0], network[1:], X, y, b=b if spread is None else b * spread, **options)


INTERVENTIONS = ((1.0, 1.0), (2.0, 1.0), (0.5, 3.0), (-1.0, 0.5), (0.0, 0.0), (1.0, -2.0))


@pytest.mark.parametrize("effect", ("mean", "absolute"))
@pytest.mark.parametrize(("a", "b"), INTERVENTIONS)
@pytest.mark.parametrize("name", AFFINE)
def test_the_closed_form_is_the_intervention(name, a, b, effect):
    network = network_of(AFFINE[name])
    found, _ = attribution(network, "0", a=a, b=b, effect=effect)
    assert found.method == "closed form" and found.gap < 1e-9
    expected = wanted(network, a=a, b=b, effect=effect, activation="logit")
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("effect", ("mean", "absolute"))
@pytest.mark.parametrize("name", ("linear", "batch norm", "average pool"))
def test_the_closed_form_of_the_softmax_is_the_intervention(name, effect):
    network = network_of(AFFINE[name])
    found, _ = attribution(network, "0", a=0.5, b=3, effect=effect, activation="softmax")
    assert found.method == "closed form of the softmax"
    expected = wanted(network, a=0.5, b=3, effect=effect, activation="softmax")
    np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("activation", ("logit", "softmax"))
@pytest.mark.parametrize("name", NOT_AFFINE)
def test_elsewhere_the_closed_form_is_refused_and_neurons_are_changed_in_turn(name, activation):
    network = network_of(NOT_AFFINE[name])
    found, tail = attribution(network, "0", a=0.5, b=1.5, effect="absolute", activation=activation)
    assert found.method == "intervention" and "not affine" in found.reason and np.isnan(found.gap)
    assert tail.weight is None
    if name != "python":  # which is no function of one sample alone
        expected = wanted(network, a=0.5, b=1.5, effect="absolute", activation=activation)
        np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-11)


def test_relu_is_refused_even_where_it_does_nothing():
    """The proof is about operations: numbers alone could not tell a ReLU that is never reached."""
    network = network_of(NOT_AFFINE["relu between"])
    with torch.no_grad():
        network[1].bias.fill_(1e3)
    assert attribution(network, "0")[0].method == "intervention"


@pytest.mark.parametrize("offset", ("constant", "spread"))
def test_an_offset_in_units_of_each_neurons_spread(offset):
    network = network_of(AFFINE["linear"])
    found, tail = attribution(network, "0", a=0.5, b=2.0, offset=offset)
    X, y = helpers.points(63)
    with torch.no_grad():
        h = network[0](torch.as_tensor(X)).numpy()
    by_class = np.stack([h[y == j] for j in range(7)])  # equal counts: the plain standard deviation
    spread = by_class.reshape(-1, 8).std(axis=0)
    np.testing.assert_allclose(found.offset, 2 * spread if offset == "spread" else 2.0, rtol=1e-10)
    expected = wanted(
        network, a=0.5, b=2.0, spread=spread if offset == "spread" else None, effect="mean", activation="logit"
    )
    np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-11)


def test_at_a_1_it_is_one_read_of_the_weights():
    network = network_of(AFFINE["linear"])
    found, _ = attribution(network, "0", b=-3)
    assert found.values.strides[0] == 0 and not found.values.flags.writeable
    np.testing.assert_array_equal(found.values[2], 3 * np.abs(network[1].weight.detach().numpy().T))
    other = causal_attribution(
        make_tail(network, torch.as_tensor(helpers.points(9)[0]), "0"),
        clean_samples(network, helpers.points(9, seed=5)),
        range(7),
        b=-3,
    )
    np.testing.assert_array_equal(other.values, found.values)


def test_the_paper_and_the_code_agree_where_the_change_keeps_its_sign():
    network = network_of(AFFINE["linear"])
    mean, absolute = (attribution(network, "0", a=1.5, b=4, effect=e)[0].values for e in ("mean", "absolute"))
    np.testing.assert_allclose(mean, absolute, rtol=1e-12)
    mean, absolute = (attribution(network, "0", a=3, b=0, effect=e)[0].values for e in ("mean", "absolute"))
    assert (absolute >= mean - 1e-12).all() and (absolute > mean + 1e-3).any()


def test_the_last_layer_is_the_input_of_the_head():
    network = helpers.mlp()
    found, tail = attribution(network, "last", a=0.5)
    assert tail.before and tail.name == "2"
    expected = helpers.by_hand(
        network[:2], network[2:], *helpers.points(63), a=0.5, b=1, effect="mean", activation="logit"
    )
    np.testing.assert_allclose(found.values, expected, atol=1e-10)


def test_the_map_before_the_average_repeats_the_columns_of_the_last_layer():
    """Correlations do not see it: the last layer and the map before the average pool give one report."""
    network = helpers.seeded(lambda: SmallCNN((1, 8, 8), 7, 4)).eval()
    X = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    last, deep = make_tail(network, X, "last"), make_tail(network, X, "blocks")
    assert deep.shape == (16, 2, 2)
    np.testing.assert_allclose(deep.weight, last.weight.repeat_interleave(4, dim=1) / 4, atol=1e-7)


def test_a_shortcut_over_the_layer_is_followed():
    network = helpers.seeded(lambda: helpers.Shortcut().double()).eval()
    X, y = helpers.points(63)
    samples = clean_samples(network, (X, y))
    tail = make_tail(network, samples.X, "layer")
    assert not tail.shares_prefix
    found = causal_attribution(tail, samples, range(7), a=0.5, b=2).values
    with torch.no_grad():
        before = torch.relu(network.first(torch.as_tensor(X)))
    expected = helpers.by_hand(
        lambda x: network.layer(torch.relu(network.first(x))),
        lambda h: network.head(torch.relu(h + before)),
        *(X, y),
        **{"a": 0.5, "b": 2, "effect": "mean", "activation": "logit"},
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_residual_networks_in_single_precision():
    network = helpers.seeded(lambda: ResNet18(7, 2, in_channels=1)).eval()
    X = torch.rand(14, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    samples = clean_samples(network, (X, np.arange(14) % 7))
    last = make_tail(network, X, "last")
    closed = causal_attribution(last, samples, range(7), a=0.5)
    forced = causal_attribution(last, samples, range(7), a=0.5, force="intervention")
    assert closed.method == "closed form" and forced.method == "intervention"
    np.testing.assert_allclose(closed.values, forced.values, rtol=0, atol=1e-6)
    inside = make_tail(network, X, "layer4.1.bn1")
    assert inside.weight is None and not inside.shares_prefix


@pytest.mark.parametrize("name", ("linear", "relu between"))
def test_small_memory_changes_nothing(name, monkeypatch):
    network = network_of(NOT_AFFINE.get(name) or AFFINE[name])
    options = {"a": 0.5, "effect": "absolute", "force": "intervention"}
    large = attribution(network, "0", **options)[0].values
    monkeypatch.setattr(tail_module, "LAYER_BYTES", 8 * 8 * 3)  # three changed rows at once
    small, tail = attribution(network, "0", batch_size=2, **options)
    assert tail.rows == 3
    np.testing.assert_allclose(small.values, large, rtol=1e-12, atol=1e-14)


def test_means_are_those_of_each_class():
    network = helpers.mlp()
    X, y = helpers.points(65)
    samples = clean_samples(network, (X, y))
    means = class_means(make_tail(network, samples.X), samples, batch_size=3)
    with torch.no_grad():
        h = network[:2](torch.as_tensor(X))
        z = network[2](h)
    for j in range(7):
        np.testing.assert_allclose(means.neurons[j], h[y == j].mean(0), rtol=1e-10)
        np.testing.assert_allclose(means.activation[j], z[y == j].mean(0), rtol=1e-10)


def test_the_closed_form_gives_way_where_interventions_disagree():
    """A second line of defence: a head that computes differently on a changed input."""

    class Odd(nn.Linear):
        def forward(self, h):
            return super().forward(h) if h.shape[0] < 100 else super().forward(h) * 2

    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), Odd(8, 7)).double().eval()
    samples = clean_samples(network, helpers.points(350))
    found = causal_attribution(make_tail(network, samples.X), samples, range(7))
    assert found.method == "intervention" and "differs from interventions" in found.reason


def test_what_has_no_activations_of_its_own_is_refused():
    norm = nn.BatchNorm1d(8, track_running_stats=False).double()
    network = nn.Sequential(nn.Linear(6, 8).double(), norm, nn.Linear(8, 7).double())
    with pytest.raises(InvalidInput, match="running statistics"):
        make_tail(network, torch.as_tensor(helpers.points(8)[0]))


def test_a_layer_that_is_not_there_or_runs_twice_is_refused():
    relu = nn.ReLU()
    network = nn.Sequential(nn.Linear(6, 6), relu, nn.Linear(6, 6), relu, nn.Linear(6, 7)).double()
    X = torch.as_tensor(helpers.points(8)[0])
    with pytest.raises(InvalidInput, match='layer="?nowhere|`layer=.nowhere'):
        make_tail(network, X, "nowhere")
    with pytest.raises(NotSupported, match="2 times"):
        make_tail(network, X, "1")
