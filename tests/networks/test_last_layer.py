"""A network's last layer: its slope against refitting by another solver, against `lc.Softmax`, and what is refused."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.errors import InvalidInput, NotSupported, SolveFailed, Status  # noqa: E402
from learningcurves.networks import BCE, extract_features, train  # noqa: E402
from learningcurves.networks.last_layer import head_task  # noqa: E402

pytestmark = pytest.mark.usefixtures("global_random_state_untouched")

PARTS = ("clean", "backdoor", "test", "triggered")
REG = 0.5


@pytest.fixture(scope="module")
def body(problem):
    """A small CNN after a few epochs on digits."""
    from learningcurves.networks import SmallCNN

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        cnn = SmallCNN((1, 8, 8), 10, 4)
    return train(cnn, problem, beta=0.3, epochs=4, batch_size=32, lr=0.05, progress=False).module


def with_head(body, n_outputs, *, bias=True, seed=0):
    """Return the body with a fresh head."""
    module = copy.deepcopy(body)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module.head = nn.Linear(module.head.in_features, n_outputs, bias=bias)
    return module


def parts_of(problem, targets=lambda y: y):
    return {p: (getattr(problem, f"X_{p}").reshape(-1, 1, 8, 8), targets(getattr(problem, f"y_{p}"))) for p in PARTS}


def one_hot(y):
    return np.eye(10)[y]


def halves(y):
    return (y > 4).astype(int)


def my_cross_entropy(outputs, targets):
    return torch.logsumexp(outputs, 1) - outputs.gather(1, targets[:, None])[:, 0]


WEIGHTS = tuple(np.linspace(0.5, 3.0, 10))


def bce(weights=None):
    def loss(outputs, t):
        weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        t = t.reshape(len(t), -1).double()
        return F.binary_cross_entropy_with_logits(outputs, t, reduction="none", pos_weight=weight).sum(1)

    return loss


# loss, outputs, targets of the labels, the same loss in torch on float64 outputs
CASES = {
    "softmax": ("cross_entropy", 10, lambda y: y, lambda f, t: F.cross_entropy(f, t, reduction="none")),
    "callable": (my_cross_entropy, 10, lambda y: y, lambda f, t: F.cross_entropy(f, t, reduction="none")),
    "bce single": ("bce", 1, halves, bce()),
    "bce single, pos_weight": (BCE(pos_weight=2.5), 1, halves, bce([2.5])),
    "bce multi": ("bce", 10, one_hot, bce()),
    "bce multi, pos_weight": (BCE(pos_weight=WEIGHTS), 10, one_hot, bce(WEIGHTS)),
    "bce soft targets": ("bce", 10, lambda y: 0.8 * one_hot(y) + 0.02, bce()),
    "mse": ("mse", 10, one_hot, lambda f, t: 0.5 * (f - t).square().sum(1)),
    "mse of classes": ("mse", 10, lambda y: y, lambda f, t: 0.5 * (f - F.one_hot(t, 10)).square().sum(1)),
    "mse single": ("mse", 1, halves, lambda f, t: 0.5 * (f[:, 0] - (2.0 * t - 1)).square()),
}


class Refit:
    """Newton's method with torch's own dense Hessians: nothing of the package's solvers."""

    def __init__(self, module, parts, loss, reg):
        found = {p: extract_features(module, X) for p, (X, _) in parts.items()}
        clean = found["clean"].X.astype(float)
        self.has_bias = module.head.bias is not None
        mean, self.scale = clean.mean(0) if self.has_bias else 0.0, clean.std(0)
        self.scale = np.where(self.scale > 0, self.scale, 1.0)
        self.X = {p: torch.from_numpy((f.X - mean) / self.scale) for p, f in found.items()}
        self.y = {p: torch.from_numpy(np.array(y)) for p, (_, y) in parts.items()}
        self.loss, self.reg, self.shape = loss, reg, (module.head.out_features, clean.shape[1])
        self.n_weights = self.shape[0] * self.shape[1]

    def outputs(self, theta, part):
        W = theta[: self.n_weights].reshape(self.shape)
        return self.X[part] @ W.T + (theta[self.n_weights :] if self.has_bias else 0.0)

    def objective(self, theta, beta):
        data = self.loss(self.outputs(theta, "clean"), self.y["clean"]).sum()
        data = data + beta * self.loss(self.outputs(theta, "backdoor"), self.y["backdoor"]).sum()
        return data + 0.5 * self.reg * theta[: self.n_weights].square().sum()

    def derivatives(self, theta, beta):
        J = lambda t: self.objective(t, beta)  # noqa: E731
        return (
            torch.autograd.functional.jacobian(J, theta),
            torch.autograd.functional.hessian(J, theta, vectorize=True),
        )

    def fit(self, beta, start=None):
        size = self.n_weights + (self.shape[0] if self.has_bias else 0)
        theta = torch.zeros(size, dtype=torch.float64) if start is None else start
        for _ in range(40):
            g, H = self.derivatives(theta, beta)
            # least squares: a softmax's intercepts leave one direction without curvature
            step = torch.linalg.lstsq(H, g, driver="gelsd").solution
            length = 1.0
            while self.objective(theta - length * step, beta) > self.objective(theta, beta) + 1e-9 and length > 1e-6:
                length /= 2
            theta = theta - length * step
            if float(step.abs().max()) < 1e-11:
                break
        return theta

    def triggered_loss(self, theta):
        return float(self.loss(self.outputs(theta, "triggered"), self.y["triggered"]).mean())

    def slope(self, at=0.0, h=2e-3):
        """Central difference of fourth order."""
        middle = self.fit(at)
        values = {k: self.triggered_loss(self.fit(at + k * h, middle)) for k in (-2, -1, 1, 2)}
        return (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h)


@pytest.mark.parametrize(
    ("case", "bias"),
    [(case, True) for case in CASES] + [(c, False) for c in ("softmax", "bce multi, pos_weight", "mse single")],
)
def test_slope_is_the_limit_of_refitting(body, problem, case, bias):
    loss, n_outputs, targets, torch_loss = CASES[case]
    module, parts = with_head(body, n_outputs, bias=bias), parts_of(problem, targets)
    at = 0.2
    slope = lc.backdoor_slope(module, parts, at, loss=loss, reg=REG)
    reference = Refit(module, parts, torch_loss, REG)
    assert slope.status is Status.OK and slope.residual < 1e-8
    # 1e-6: the difference quotient's own error at this step
    assert slope.value == pytest.approx(reference.slope(at), rel=1e-6)
    assert slope.loss == pytest.approx(reference.triggered_loss(reference.fit(at)), rel=1e-9)
    if case != "callable":
        assert slope.verify().relative_difference < 1e-6


def standardised(module, problem):
    found = extract_features(module, problem)
    mean, scale = found.X_clean.mean(0), found.X_clean.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    arrays = {f"X_{p}": (getattr(found, f"X_{p}") - mean) / scale for p in PARTS}
    return lc.BackdoorProblem(**arrays, **{f"y_{p}": getattr(problem, f"y_{p}") for p in PARTS})


def test_a_softmax_head_is_softmax(body, problem):
    features = standardised(body, problem)
    learner = lc.Softmax(reg=REG)
    assert lc.backdoor_slope(body, problem, reg=REG).value == pytest.approx(
        lc.backdoor_slope(learner, features).value, rel=1e-8
    )
    beta = [0.0, 0.03, 0.3, 1.0]
    curve, expected = lc.learning_curve(body, problem, beta, reg=REG), lc.learning_curve(learner, features, beta)
    for name in ("loss_triggered", "loss_clean", "bk", "accuracy_clean", "rho", "nu", "slope"):
        np.testing.assert_allclose(getattr(curve, name), getattr(expected, name), rtol=1e-8, atol=1e-12)
    influence, other = (lc.pairwise_influence(m, p, **k) for m, p, k in (
        (body, problem, {"reg": REG}), (learner, features, {})
    ))  # fmt: skip
    np.testing.assert_allclose(influence.block(), other.block(), rtol=1e-7, atol=1e-10)


def test_a_callable_cross_entropy_is_the_same(body, problem):
    at = {"at": 0.1, "reg": REG}
    named, own = (lc.backdoor_slope(body, problem, loss=loss, **at) for loss in ("cross_entropy", my_cross_entropy))
    assert own.status is Status.OK
    assert own.value == pytest.approx(named.value, rel=1e-8) and own.loss == pytest.approx(named.loss, rel=1e-8)
    curves = [
        lc.learning_curve(body, problem, [0.0, 0.5], reg=REG, loss=k) for k in ("cross_entropy", my_cross_entropy)
    ]
    np.testing.assert_allclose(curves[0].loss_triggered, curves[1].loss_triggered, rtol=1e-8)
    np.testing.assert_allclose(curves[0].bk, curves[1].bk)


@pytest.mark.parametrize("case", ["bce multi", "bce single, pos_weight", "mse", "callable"])
def test_curve_and_influence_of_other_heads(body, problem, case):
    loss, n_outputs, targets, _ = CASES[case]
    module, parts = with_head(body, n_outputs), parts_of(problem, targets)
    curve = lc.learning_curve(module, parts, [0.0, 0.1, 1.0], loss=loss, reg=REG)
    assert all(s.ok for s in curve.status) and curve.loss_triggered[-1] < curve.loss_triggered[0]
    slope = lc.backdoor_slope(module, parts, 0.1, loss=loss, reg=REG)
    assert curve.slope[1] == pytest.approx(slope.value, rel=1e-8)
    influence = lc.pairwise_influence(module, parts, 0.1, loss=loss, reg=REG)
    assert influence.shape == (60, 24)
    assert influence.mean().sum() == pytest.approx(slope.value, rel=1e-7)
    assert curve.rho[0] > 0 and curve.nu[0] < 1e-15


def test_several_lambda(body, problem):
    curves = lc.learning_curve(body, problem, [0.0, 1.0], reg=[0.1, 10.0])
    alone = lc.learning_curve(body, problem, [0.0, 1.0], reg=10.0)
    np.testing.assert_allclose(curves[1].loss_triggered, alone.loss_triggered, rtol=1e-9)
    assert curves[0].reg == 0.1 and curves[0].learner.reg == 0.1


def test_chunks_order_and_type_change_nothing(body, problem):
    """1e-6: features of a float32 network are rounded at 1e-7 and differ by that from chunk to chunk."""
    expected = lc.backdoor_slope(body, problem, reg=REG).value
    found = {size: lc.backdoor_slope(body, problem, reg=REG, batch_size=size).value for size in (1, 7, 1000)}
    found["float64"] = lc.backdoor_slope(copy.deepcopy(body).double(), problem, reg=REG).value
    order = np.random.default_rng(0).permutation(problem.n_clean)
    parts = parts_of(problem)
    parts["clean"] = tuple(a[order] for a in parts["clean"])
    found["order"] = lc.backdoor_slope(body, parts, reg=REG).value
    tensors = {p: TensorDataset(torch.from_numpy(X.copy()), torch.from_numpy(y.copy())) for p, (X, y) in parts.items()}
    shuffled = {p: DataLoader(d, batch_size=9, shuffle=p != "triggered") for p, d in tensors.items()}
    found["loaders"] = lc.backdoor_slope(body, shuffled, reg=REG).value
    found["sequence"] = lc.backdoor_slope(body, [tensors[p] for p in PARTS], reg=REG).value
    found["no test samples"] = lc.backdoor_slope(body, {**parts, "test": None}, reg=REG).value
    found["no test samples, in order"] = lc.backdoor_slope(
        body, (parts["clean"], parts["backdoor"], None, parts["triggered"]), reg=REG
    ).value
    for name, value in found.items():
        assert value == pytest.approx(expected, rel=1e-6), name


def test_training_mode_and_state_stay(body, problem):
    module = copy.deepcopy(body).train()
    module.blocks[0].requires_grad_(False)  # frozen parameters are features as any
    module.head.requires_grad_(False)
    state = {n: t.clone() for n, t in module.state_dict().items()}
    value = lc.backdoor_slope(module, problem, reg=REG).value
    assert module.training and value == pytest.approx(lc.backdoor_slope(body, problem, reg=REG).value, rel=1e-12)
    assert all(torch.equal(state[n], t) for n, t in module.state_dict().items())


class Peculiar(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.body, self.head = nn.Linear(192, 12), nn.Linear(12, 10)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        x = x.flatten(1)
        if self.kind == "flat":
            return self.head(x)
        x = torch.tanh(self.body(x))
        if self.kind == "noise":
            x = F.dropout(x, 0.5, training=True)
        if self.kind == "counts":
            self.seen += 1
        if self.kind == "drifts":
            self.seen += 1
            x = x + self.seen
        return self.head(self.drop(x))


def peculiar(kind):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = Peculiar(kind)
        if kind == "flat":
            module.head = nn.Linear(192, 10)
        return module


@pytest.mark.parametrize("kind", ["plain", "flat"])
def test_dropout_batch_norm_and_flat_features(problem, kind):
    """More features than samples (192 of 120) on the flattened convolution."""
    module = peculiar(kind)
    slope = lc.backdoor_slope(module, problem, reg=REG)
    expected = lc.backdoor_slope(lc.Softmax(reg=REG), standardised(module, problem))
    assert slope.status is Status.OK and slope.value == pytest.approx(expected.value, rel=1e-8)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("noise", "changes between two calls"), ("drifts", "changes between two calls"), ("counts", "network changed")],
)
def test_modules_that_change_are_refused(problem, kind, message):
    with pytest.raises(InvalidInput, match=message):
        lc.backdoor_slope(peculiar(kind), problem, reg=REG)


def test_tied_heads_are_refused(problem):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.squeeze, self.body = nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10)
            self.head = nn.Linear(10, 10)
            self.head.weight = self.body.weight

        def forward(self, x):
            return self.head(torch.tanh(self.body(self.squeeze(self.flat(x)))))

    with torch.random.fork_rng(devices=[]):
        module = Tied()
    with pytest.raises(NotSupported, match="shares its weights with body"):
        lc.backdoor_slope(module, problem)


def double_well(outputs, targets):
    """Not convex: flat far from the target (Welsch's function), pulled by the labels."""
    return (1 - torch.exp(-0.5 * (outputs - F.one_hot(targets, outputs.shape[1])).square())).sum(1)


def test_a_loss_that_is_not_convex(body, problem):
    """At a minimum with curvature the slope is the limit of refitting; without, there is no number."""
    slope = lc.backdoor_slope(body, problem, loss=double_well, reg=5.0)
    assert slope.status is Status.OK and slope.smallest_eigenvalue > 0
    assert slope.verify().relative_difference < 1e-6
    assert np.isnan(slope.error_bound) or slope.error_bound == np.inf


def downhill(outputs, targets):
    """Concave: no minimum within reach of a small lambda."""
    return -outputs.square().sum(1)


def test_negative_curvature_is_a_status(body, problem):
    slope = lc.backdoor_slope(body, problem, loss=downhill, reg=1.0)
    assert slope.status is Status.INDEFINITE and np.isnan(slope.value) and slope.smallest_eigenvalue < 0
    assert "no value" in repr(slope) and "negative curvature" in repr(slope)
    with pytest.raises(SolveFailed):
        lc.pairwise_influence(body, problem, loss=downhill, reg=1.0)


def test_lanczos_finds_the_smallest_eigenvalue(body, problem):
    module, parts = with_head(body, 1), parts_of(problem, halves)
    slope = lc.backdoor_slope(module, parts, loss="bce", reg=REG)
    refit = Refit(module, parts, bce(), REG)
    H = refit.derivatives(refit.fit(0.0), 0.0)[1]
    assert slope.smallest_eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(H)[0]), rel=1e-6)


def test_the_given_heads_distance_is_reported(body, problem):
    solved = copy.deepcopy(body).double()
    task = head_task(solved, problem, reg=REG)
    assert lc.backdoor_slope(solved, problem, reg=REG).head_residual == task.head_residual > 1e-3
    curve = lc.learning_curve(solved, problem, [0.0], reg=REG)
    with torch.no_grad():
        weight = curve.coef[0] / task.scale
        solved.head.weight.copy_(torch.from_numpy(weight))
        solved.head.bias.copy_(torch.from_numpy(curve.intercept[0] - weight @ task.mean))
    slope = lc.backdoor_slope(solved, problem, reg=REG)
    assert slope.head_residual < 1e-8
    assert "given head's relative gradient" in repr(slope) and slope.head == "head"
    assert slope.network.startswith("SmallCNN ")


def test_no_backdoor_samples_no_slope(body, problem):
    parts = parts_of(problem)
    parts["backdoor"] = tuple(a[:0] for a in parts["backdoor"])
    slope = lc.backdoor_slope(body, parts, reg=REG)
    assert slope.value == 0.0 and slope.status is Status.OK


def test_mnist(mnist_root, body):
    """Real images; a body trained on digits sees them at half their size."""
    data = lc.load_mnist(root=mnist_root, n_train=1500, n_test=300)
    problem = lc.poison(data, lc.RandomPatch(size=3, seed=1), 0.1, seed=1, labels=0)
    module = nn.Sequential(nn.AdaptiveAvgPool2d(8), body)
    for reg in (0.1, 10.0):
        slope = lc.backdoor_slope(module, problem, reg=reg)
        assert slope.status is Status.OK and slope.value < 0
        assert slope.verify().relative_difference < 1e-6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"problem": 3}, NotSupported, "expected a BackdoorProblem, or the parts"),
        ({"problem": {"clean": None, "other": None}}, InvalidInput, "unknown part 'other'"),
        ({"reg": 0}, InvalidInput, "`reg=0`"),
        ({"at": 2.0}, InvalidInput, "`at=2"),
        ({"loss": "hinge"}, NotSupported, "`loss='hinge'`"),
        ({"loss": "bce"}, InvalidInput, "targets of the clean part have 1 columns for a head of 10"),
        ({"head": "blocks"}, InvalidInput, "`head='blocks'` is not a linear layer"),
        ({"parameters": "some"}, NotSupported, "`parameters='some'`"),
        ({"loss": lambda f, t: f.sum()}, InvalidInput, "one loss a sample"),
    ],
)
def test_bad_arguments_are_named(body, problem, arguments, error, message):
    options = {"problem": problem, **arguments}
    with pytest.raises(error) as caught:
        lc.backdoor_slope(body, **options)
    assert message in str(caught.value)


def test_heads_that_do_not_fit_are_refused(body, problem):
    with pytest.raises(InvalidInput, match="7 outputs and the clean samples 10 classes"):
        lc.backdoor_slope(with_head(body, 7), problem)
    parts = parts_of(problem)
    del parts["triggered"]
    with pytest.raises(InvalidInput, match="lacks the triggered part"):
        lc.backdoor_slope(body, parts)
    with pytest.raises(NotSupported, match="only the last layer has an exact curve"):
        lc.learning_curve(body, problem, parameters="all")


def test_verify_comes_with_the_slope(body, problem):
    slope = lc.backdoor_slope(body, problem, reg=REG, verify=True)
    assert slope.refit.predicted == slope.value and slope.refit.relative_difference < 1e-6
    assert "Verification" in repr(slope) and lc.backdoor_slope(body, problem, reg=REG).refit is None


@pytest.mark.parametrize(
    ("call", "options", "error", "message"),
    [
        (lc.backdoor_slope, {"colour": 3}, InvalidInput, "`colour` is no option here"),
        (lc.backdoor_slope, {"damping": 1.0}, InvalidInput, "`damping` is no option here"),
        (lc.backdoor_slope, {"parameters": "all", "head": "head"}, InvalidInput, "`head` is no option here"),
        (lc.backdoor_slope, {"parameters": "all", "refine": True}, NotSupported, "`refine=True`"),
        (lc.backdoor_slope, {"device": "nowhere"}, InvalidInput, "`device='nowhere'`"),
        (lc.learning_curve, {"colour": 3}, InvalidInput, "`colour` is no option here"),
        (lc.learning_curve, {"parameters": "all"}, NotSupported, "only the last layer"),
        (lc.pairwise_influence, {"colour": 3}, InvalidInput, "`colour` is no option here"),
        (lc.pairwise_influence, {"parameters": "all"}, NotSupported, "that of the last layer"),
    ],
)
def test_options_that_do_not_belong_are_named(body, problem, call, options, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(")):
        call(body, problem, **options)


def test_a_device_that_is_there(body, problem):
    """The same module on the CPU; without CUDA asking for it is refused, with it the answer is the same to 1e-6."""
    expected = lc.backdoor_slope(body, problem, reg=REG).value
    assert lc.backdoor_slope(body, problem, reg=REG, device="cpu").value == expected
    if torch.cuda.is_available():
        assert lc.backdoor_slope(body, problem, reg=REG, device="cuda").value == pytest.approx(expected, rel=1e-6)
        assert next(body.parameters()).device.type == "cpu"
    else:
        for parameters in ("last_layer", "all"):
            with pytest.raises(InvalidInput, match="not available here"):
                lc.backdoor_slope(body, problem, parameters=parameters, device="cuda")
