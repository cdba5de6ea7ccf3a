"""The defences SODA is compared with, and the attacker who knows it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import soda_helpers as helpers  # noqa: E402
from torch import nn  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.defences.soda_adaptive import AdaptiveLoss, correlation_spread, rescale_neurons  # noqa: E402
from learningcurves.errors import InvalidInput  # noqa: E402
from learningcurves.networks import ResNet18, SmallCNN, train  # noqa: E402
from learningcurves.networks.weights import weights_digest  # noqa: E402

# %% last layer


@pytest.mark.parametrize("bias", (True, False))
def test_the_last_layer_is_at_its_minimum(bias):
    network = helpers.seeded(lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4, bias=bias)).double())
    X, y = helpers.points(200, 4)
    before = weights_digest(network)
    found = lc.defend_last_layer(network, (X, y), reg=0.7)
    assert weights_digest(network) == before and found.certificate.residual < 1e-8
    h = found.module[:2](torch.as_tensor(X)).detach()
    scale = h.std(0, correction=0)
    W = found.module[2].weight.detach().clone().requires_grad_(True)
    b = found.module[2].bias.detach().clone().requires_grad_(True) if bias else torch.zeros(4, dtype=torch.float64)
    # the objective in the network's own features: the penalty is on W times the features' spread
    value = nn.functional.cross_entropy(h @ W.T + b, torch.as_tensor(y), reduction="sum")
    value = value + 0.35 * (W * scale).square().sum()
    gradients = torch.autograd.grad(value, [W, b] if bias else [W])
    assert max(float(g.abs().max()) for g in gradients) < 1e-6
    assert torch.equal(found.module[0].weight, network[0].weight)


def test_the_last_layer_needs_every_class():
    network = helpers.mlp()
    X, y = helpers.points()
    with pytest.raises(InvalidInput, match="no sample of 3"):
        lc.defend_last_layer(network, (X[y != 3], y[y != 3]))
    with pytest.raises(InvalidInput, match="reg"):
        lc.defend_last_layer(network, (X, y), reg=0)


# %% smoothing


def test_votes_are_a_function_of_the_sample_alone():
    network, (X, y) = helpers.mlp(), helpers.points()
    smoothed = lc.defend_smoothing(network, (X, y), sigma=0.5, n_draws=25).module
    X = torch.as_tensor(X)
    votes = smoothed(X)
    torch.testing.assert_close(votes.sum(1), torch.ones(len(X), dtype=torch.float64))
    torch.testing.assert_close(smoothed(X[5:9]), votes[5:9])
    none = lc.defend_smoothing(network, (X, y), sigma=0.0, n_draws=3)
    assert torch.equal(none.module(X).argmax(1), network(X).argmax(1))
    assert none.accuracy_after.value == none.accuracy_before.value


def test_votes_are_shares_of_noisy_copies():
    """A sample at distance d of a plane is called one side with probability Phi(d / sigma)."""
    from scipy.stats import norm

    network = nn.Linear(3, 2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0, 0], [1, 0, 0]]))
        network.bias.zero_()
    X = torch.tensor([[0.3, 5, 5], [-1.0, 0, 2]], dtype=torch.float64)
    data = (np.array([[1.0, 0, 0], [-1, 0, 0]]), [1, 0])
    votes = lc.defend_smoothing(network, data, sigma=0.6, n_draws=4000).module(X)[:, 1].detach().numpy()
    np.testing.assert_allclose(votes, norm.cdf(X[:, 0].numpy() / 0.6), atol=4 * 0.5 / np.sqrt(4000))


def test_smoothing_refuses_what_it_cannot_do():
    with pytest.raises(InvalidInput, match="sigma=-1"):
        lc.defend_smoothing(helpers.mlp(), helpers.points(), sigma=-1)
    with pytest.raises(InvalidInput, match="n_draws=0"):
        lc.defend_smoothing(helpers.mlp(), helpers.points(), n_draws=0)


# %% Neural Cleanse


class Corner(nn.Module):
    """A network whose class 4 is a bright corner pixel, and whose other classes are bright columns."""

    def forward(self, x):
        columns = 8 * x[:, 0].mean(1)[:, :6]
        bonus = torch.zeros_like(columns)
        bonus[:, 4] = 40 * x[:, 0, -1, -1]
        return columns + bonus

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))


def columns(n=120):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 6
    X = 0.1 * rng.random((n, 1, 6, 8))
    X[np.arange(n), 0, :, y] = 0.8
    return X, y


def test_neural_cleanse_finds_the_patch():
    data = columns()
    found = lc.detect_neural_cleanse(Corner(), data, steps=80, batch_size=32)
    assert found.target == 4 and found.verdict == "backdoored" and found.index[4] < -2
    assert found.size[4] < 0.5 * np.delete(found.size, 4).min()
    assert found.masks.shape == (6, 6, 8) and found.masks.min() >= 0 and found.masks.max() <= 1
    assert found.patterns.min() >= 0 and found.patterns.max() <= 1
    # the corner is bright: in the mask, and in the pattern
    assert found.masks[4, -1, -1] == found.masks[4].max() and found.patterns[4, 0, -1, -1] > 0.5
    assert found.success[4] > 0.9 and "smallest patch '4'" in repr(found)


def test_neural_cleanse_cannot_tell_from_too_few_patches():
    found = lc.detect_neural_cleanse(Corner(), columns(), steps=3)
    assert found.verdict == "cannot tell" and "0 classes have a patch" in found.reasons[0]


def test_neural_cleanse_refuses_rows_and_wrong_arguments():
    with pytest.raises(InvalidInput, match="expected images"):
        lc.detect_neural_cleanse(helpers.mlp(), helpers.points(), steps=1)
    for wrong in ({"value_range": (1, 0)}, {"steps": 0}, {"success": 0}, {"threshold": 2.0, "fpr": 0.1}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            lc.detect_neural_cleanse(Corner(), columns(), **wrong)


# %% the attacker who knows


def test_the_spread_of_correlations_is_that_of_numpy_and_has_a_gradient():
    h = torch.rand(9, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    mean = h.detach().numpy().mean(0)
    by_hand = np.std([np.corrcoef(row, mean)[0, 1] for row in h.detach().numpy()])
    assert float(correlation_spread(h).detach()) == pytest.approx(by_hand, rel=1e-12)
    assert torch.autograd.gradcheck(correlation_spread, (h,))
    alike = torch.ones(5, 14, dtype=torch.float64).requires_grad_(True)
    correlation_spread(alike).backward()
    assert torch.isfinite(alike.grad).all()


def test_the_penalty_is_optimised_and_the_scores_stay_plain():
    data = lc.load_digits_classes(n_train=300)
    X, y = helpers.as_images(data)
    spreads, losses = [], []
    for rho in (0.0, 0.9):
        network = helpers.seeded(lambda: SmallCNN((1, 8, 8), 10, 4))
        with AdaptiveLoss(network, X[:8], rho) as loss:
            parts = {"clean": (X, y), "backdoor": (X[:0], y[:0]), "test": (X, y)}
            trained = train(network, parts, epochs=3, batch_size=32, lr=0.05, loss=loss, progress=False)
        with torch.no_grad():
            images = torch.tensor(X, dtype=torch.float32)
            spreads.append(float(correlation_spread(network.blocks(images).mean((2, 3)))))
            plain = nn.functional.cross_entropy(network(images), torch.as_tensor(y))
        assert trained.history[-1]["loss_clean"] == pytest.approx(float(plain), rel=1e-5)
        losses.append(trained.history[-1]["loss_clean"])
        assert trained.settings["loss"].endswith(f"AdaptiveLoss(rho={rho})")
        assert not network.head._forward_pre_hooks
    assert spreads[1] < 0.6 * spreads[0] and losses[1] > losses[0]


def test_without_its_block_the_penalty_refuses():
    network, (X, _) = helpers.mlp(), helpers.points(8)
    loss = AdaptiveLoss(network, X, 0.5)
    outputs = network(torch.as_tensor(X))
    with pytest.raises(InvalidInput, match="with AdaptiveLoss"):
        loss(outputs, torch.zeros(8, dtype=torch.int64))
    with pytest.raises(InvalidInput, match="rho=2"):
        AdaptiveLoss(network, X, 2.0)


@pytest.mark.parametrize(
    ("make", "shape", "kind"),
    (
        (lambda: SmallCNN((1, 8, 8), 7, 3), (1, 8, 8), "Linear"),
        (lambda: ResNet18(7, 2, in_channels=1), (1, 8, 8), "ScaledHead"),
        (lambda: nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 7)), (6,), "Linear"),
        (lambda: nn.Sequential(nn.Linear(6, 12), nn.Sigmoid(), nn.Linear(12, 7)), (6,), "ScaledHead"),
    ),
)
def test_rescaling_keeps_the_function(make, shape, kind):
    network = helpers.seeded(make).double().eval()
    X = torch.rand(10, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = weights_digest(network)
    n = {"SmallCNN": 12, "ResNet18": 16}.get(type(network).__name__, 12)
    scaled = rescale_neurons(network, X, np.exp(np.linspace(-2, 2, n)))
    torch.testing.assert_close(scaled(X), network(X), rtol=1e-10, atol=1e-10)
    head = list(scaled.children())[-1]
    assert type(head).__name__ == kind and weights_digest(network) == before
    with pytest.raises(InvalidInput, match=f"{n} positive numbers"):
        rescale_neurons(network, X, -np.ones(n))
