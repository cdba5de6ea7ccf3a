"""Slopes through chosen parameters: against refitting at a true minimum, against the last layer, honest elsewhere."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.errors import InvalidInput, NotSupported, Status  # noqa: E402
from learningcurves.networks.last_layer import head_task  # noqa: E402

pytestmark = pytest.mark.usefixtures("global_random_state_untouched")

REG = 1.0


class Tanh(nn.Module):
    """Smooth throughout, so that a minimum has a Hessian."""

    def __init__(self, bias=True):
        super().__init__()
        self.squeeze = nn.AvgPool2d(2)
        self.body, self.head = nn.Linear(16, 6), nn.Linear(6, 3, bias=bias)

    def forward(self, x):
        return self.head(torch.tanh(self.body(self.squeeze(x).flatten(1))))


def make(bias=True):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Tanh(bias)


@pytest.fixture(scope="module")
def three():
    """Digits 0, 1 and 2 with a patch."""
    from sklearn.datasets import load_digits

    X, y = load_digits(n_class=3, return_X_y=True)
    X = X.reshape(-1, 1, 8, 8) / 16
    bad = X.copy()
    bad[:, :, 5:, 5:] = 1.0
    flipped = (y + 1) % 3
    return {
        "clean": (X[:60], y[:60]),
        "backdoor": (bad[60:75], flipped[60:75]),
        "test": (X[75:115], y[75:115]),
        "triggered": (bad[75:115], flipped[75:115]),
    }


def minimise(module, parts, beta, reg=REG):
    """L-BFGS and then Newton on J in float64, written here: nothing of the package."""
    tensors = {p: (torch.tensor(X), torch.tensor(y)) for p, (X, y) in parts.items()}
    module = module.double()
    options = {"line_search_fn": "strong_wolfe", "tolerance_grad": 1e-13, "tolerance_change": 0.0}
    solver = torch.optim.LBFGS(module.parameters(), max_iter=300, history_size=60, **options)

    def objective():
        solver.zero_grad()
        J = sum(
            weight * F.cross_entropy(module(tensors[p][0]), tensors[p][1], reduction="sum")
            for p, weight in (("clean", 1.0), ("backdoor", beta))
        )
        J = J + 0.5 * reg * sum(p.square().sum() for p in module.parameters())
        J.backward()
        return J

    solver.step(objective)
    names, shapes = zip(*[(n, p.shape) for n, p in module.named_parameters()], strict=True)

    def J(theta):
        pieces = torch.split(theta, [s.numel() for s in shapes])
        chosen = {n: t.reshape(s) for n, t, s in zip(names, pieces, shapes, strict=True)}
        total = 0.5 * reg * theta.square().sum()
        for p, weight in (("clean", 1.0), ("backdoor", beta)):
            outputs = torch.func.functional_call(module, chosen, (tensors[p][0],))
            total = total + weight * F.cross_entropy(outputs, tensors[p][1], reduction="sum")
        return total

    theta = nn.utils.parameters_to_vector(module.parameters()).detach()
    for _ in range(3):  # the last digits
        H = torch.autograd.functional.hessian(J, theta, vectorize=True)
        theta = theta - torch.linalg.solve(H, torch.autograd.functional.jacobian(J, theta))
    nn.utils.vector_to_parameters(theta, module.parameters())
    with torch.no_grad():
        loss = float(F.cross_entropy(module(tensors["triggered"][0]), tensors["triggered"][1]))
    return module, loss


@pytest.fixture(scope="module")
def minimum(three):
    return minimise(make(), three, 0.0)


def test_slope_is_the_limit_of_refitting_at_a_minimum(three, minimum):
    """The secant's error falls with its step, at first order."""
    module, start = minimum
    slope = lc.backdoor_slope(module, three, parameters="all", reg=REG, rtol=1e-10, max_steps=500)
    assert slope.status is Status.OK and slope.gradient_norm < 1e-6 and slope.smallest_ritz > 0
    assert slope.loss == pytest.approx(start, rel=1e-10)
    steps = np.array([4e-5, 2e-5, 1e-5])  # one direction is nearly flat: the curve bends early
    secants = [(minimise(copy.deepcopy(module), three, h)[1] - start) / h for h in steps]
    errors = np.abs(np.array(secants) - slope.value)
    np.testing.assert_allclose(errors[:-1] / errors[1:], 2.0, rtol=0.15)
    assert 2 * secants[2] - secants[1] == pytest.approx(slope.value, rel=1e-4)  # Richardson's value


def test_verify_refits(three, minimum):
    slope = lc.backdoor_slope(minimum[0], three, parameters="all", reg=REG, verify=True)
    assert slope.refit.step == 0.01 and slope.refit.relative_difference < 0.5
    closer = slope.verify(step=1e-3, iterations=500)
    assert closer.relative_difference < 0.5 * slope.refit.relative_difference
    assert ("secant" in closer.cause) == (closer.relative_difference > 1e-2)
    assert "Verification" in repr(slope)


def test_dense_hessian(three, minimum):
    """Against a Hessian formed by autograd and solved directly."""
    module, _ = minimum
    names = ["head.weight", "head.bias", "body.bias"]
    slope = lc.backdoor_slope(module, three, 0.01, parameters=names, reg=REG, rtol=1e-12, max_steps=500)
    tensors = dict(module.named_parameters())
    theta = torch.cat([tensors[n].detach().reshape(-1) for n in names])

    def losses(theta, part):
        chosen, at = {}, 0
        for n in names:
            chosen[n] = theta[at : at + tensors[n].numel()].reshape(tensors[n].shape)
            at += tensors[n].numel()
        X, y = (torch.tensor(a) for a in three[part])
        return F.cross_entropy(torch.func.functional_call(module, chosen, (X,)), y, reduction="sum")

    def objective(t):
        return losses(t, "clean") + 0.01 * losses(t, "backdoor") + 0.5 * REG * t.square().sum()

    H = torch.autograd.functional.hessian(objective, theta, vectorize=True)
    g_test, g_backdoor = (
        torch.autograd.functional.jacobian(lambda t, p=p: losses(t, p), theta) for p in ("triggered", "backdoor")
    )
    expected = -g_test / len(three["triggered"][1]) @ torch.linalg.solve(H, g_backdoor)
    assert slope.value == pytest.approx(float(expected), rel=1e-9)
    assert slope.smallest_ritz == pytest.approx(float(torch.linalg.eigvalsh(H)[0]), rel=0.05)
    damped = lc.backdoor_slope(module, three, 0.01, parameters=names, reg=REG, damping=2.0, rtol=1e-12, max_steps=500)
    expected = -g_test / len(three["triggered"][1]) @ torch.linalg.solve(H + 2 * torch.eye(len(H)), g_backdoor)
    assert damped.value == pytest.approx(float(expected), rel=1e-9) and damped.damping == 2.0


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
def test_the_head_alone_is_the_last_layer(three, bias, matrix):
    """At the head's minimum on raw features; in a linear head the Gauss-Newton matrix is the Hessian."""
    module, at = make(bias).double(), 0.1
    options = {"reg": REG, "standardize": False}
    task = head_task(module, three, at=at, **options)
    curve = lc.learning_curve(module, three, [at], **options)
    with torch.no_grad():
        module.head.weight.copy_(torch.from_numpy(curve.coef[0]))
        if bias:
            module.head.bias.copy_(torch.from_numpy(curve.intercept[0]))
    assert task.mean.any() == 0 and (task.scale == 1).all()
    expected = lc.backdoor_slope(module, three, at, **options)
    names = ["head.weight", "head.bias"] if bias else ["head.weight"]
    penalty = {"head.weight": REG} if bias else REG  # the last layer's bias is free
    slope = lc.backdoor_slope(module, three, at, parameters=names, reg=penalty, matrix=matrix, rtol=1e-10)
    assert slope.status is Status.OK and slope.gradient_norm < 1e-8
    assert slope.value == pytest.approx(expected.value, rel=1e-8)
    assert slope.matrix == matrix and slope.loss == pytest.approx(expected.loss, rel=1e-10)


def test_gauss_newton_is_never_negative(three):
    """Far from a minimum the Hessian has negative curvature; Gauss-Newton has not, and is no Hessian."""
    module = make().double()
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(4.0)
    hessian = lc.backdoor_slope(module, three, parameters="all", reg=0.01, max_steps=2000)
    assert hessian.status is Status.INDEFINITE and np.isnan(hessian.value) and hessian.smallest_ritz < 0
    gauss = lc.backdoor_slope(module, three, parameters="all", reg=0.01, matrix="gauss_newton", max_steps=2000)
    assert gauss.status is Status.NOT_OPTIMAL and np.isfinite(gauss.value) and gauss.smallest_ritz > 0
    assert "gauss_newton" in repr(gauss)


def test_statuses_away_from_a_minimum(three, minimum):
    moved = copy.deepcopy(minimum[0])
    with torch.no_grad():
        moved.head.weight.mul_(1.05)
    slope = lc.backdoor_slope(moved, three, parameters="all", reg=REG)
    assert slope.status is Status.NOT_OPTIMAL and slope.gradient_norm > 1e-3
    cut = lc.backdoor_slope(minimum[0], three, parameters="all", reg=REG, max_steps=2)
    assert cut.status is Status.MAX_STEPS and np.isnan(cut.value) and cut.residual > 1e-6
    empty = {**three, "backdoor": tuple(a[:0] for a in three["backdoor"])}
    assert lc.backdoor_slope(minimum[0], empty, parameters="all", reg=REG).value == 0.0


def test_chunks_type_and_mode_change_nothing(three, minimum):
    module = copy.deepcopy(minimum[0]).train()
    expected = lc.backdoor_slope(module, three, parameters="all", reg=REG, rtol=1e-10).value
    state = {n: t.clone() for n, t in module.state_dict().items()}
    for size in (25,):
        found = lc.backdoor_slope(module, three, parameters="all", reg=REG, rtol=1e-10, batch_size=size).value
        assert found == pytest.approx(expected, rel=1e-8)
    assert module.training and all(torch.equal(state[n], t) for n, t in module.state_dict().items())
    # float32 weights are other weights, by 6e-8 of each
    single = lc.backdoor_slope(copy.deepcopy(module).float(), three, parameters="all", reg=REG, rtol=1e-10).value
    assert single == pytest.approx(expected, rel=1e-5)


def test_frozen_and_tied_parameters(three, minimum):
    frozen = copy.deepcopy(minimum[0])
    frozen.body.requires_grad_(False)
    slope = lc.backdoor_slope(frozen, three, parameters="all", reg=REG)
    assert slope.parameters == ("head.weight", "head.bias")
    frozen.requires_grad_(False)
    with pytest.raises(InvalidInput, match="every parameter is frozen"):
        lc.backdoor_slope(frozen, three, parameters="all")

    class Tied(nn.Module):
        """Twice the same square layer: one tensor, moved in both places."""

        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.two.weight = self.one.weight

        def forward(self, x):
            x = F.avg_pool2d(x, 4).flatten(1)
            return self.head(torch.tanh(self.two(torch.tanh(self.one(x)))))

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = Tied().double()
    with pytest.raises(InvalidInput, match="'two.weight' is tied to 'one.weight'"):
        lc.backdoor_slope(module, three, parameters=["two.weight"])
    module, start = minimise(module, three, 0.0)
    slope = lc.backdoor_slope(module, three, parameters="all", reg=REG, rtol=1e-10, max_steps=500)
    assert "two.weight" not in slope.parameters and slope.status is Status.OK
    h = 1e-4
    secant = (minimise(copy.deepcopy(module), three, h)[1] - start) / h
    assert slope.value == pytest.approx(secant, rel=1e-2)


class Odd(Tanh):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.norm, self.calls = kind, nn.BatchNorm1d(6, track_running_stats=False), 0

    def forward(self, x):
        x = torch.tanh(self.body(self.squeeze(x).flatten(1)))
        if self.kind == "noise":
            x = F.dropout(x, 0.5, training=True)
        if self.kind == "drifts":
            self.calls += 1
            x = x * self.calls
        if self.kind == "batch":
            x = self.norm(x)
        return self.head(x)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("noise", "changes between two calls"), ("drifts", "changes between two calls"), ("batch", "other samples")],
)
def test_modules_that_change_are_refused(three, kind, message):
    with torch.random.fork_rng(devices=[]):
        module = Odd(kind)
    with pytest.raises(InvalidInput, match=message):
        lc.backdoor_slope(module, three, parameters="all")


def test_modules_with_several_outputs_are_refused(three):
    class Pair(Tanh):
        def forward(self, x):
            return super().forward(x), 0

    with torch.random.fork_rng(devices=[]), pytest.raises(NotSupported, match="returns a tuple"):
        lc.backdoor_slope(Pair(), three, parameters="all")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"parameters": ["head.weight", "nose"]}, InvalidInput, "unknown name 'nose'"),
        ({"parameters": []}, InvalidInput, "no name"),
        ({"parameters": ["head.bias", "head.bias"]}, InvalidInput, "names 'head.bias' twice"),
        ({"parameters": "first"}, NotSupported, "`parameters='first'`"),
        ({"parameters": "all", "matrix": "fisher"}, InvalidInput, "matrix"),
        ({"parameters": "all", "damping": -1}, InvalidInput, "damping"),
        ({"parameters": "all", "reg": -1}, InvalidInput, "reg"),
        ({"parameters": ["head.bias"], "reg": {"body.bias": 1.0}}, InvalidInput, "`reg` names 'body.bias'"),
        ({"parameters": "all", "batch_size": 0}, InvalidInput, "batch_size"),
        ({"parameters": "all", "max_steps": 0}, InvalidInput, "max_steps"),
    ],
)
def test_bad_arguments_are_named(three, options, error, message):
    with pytest.raises(error) as caught:
        lc.backdoor_slope(make(), three, **options)
    assert message in str(caught.value)


def test_lazy_names():
    """Networks are public names of the package; a star import leaves torch out."""
    assert lc.SmallCNN.__name__ == "SmallCNN" and lc.ResNet18.__name__ == "ResNet18" and callable(lc.train_curve)
    assert "train_curve" in dir(lc) and "train_curve" not in lc.__all__
