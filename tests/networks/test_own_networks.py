"""Networks that are none of the package's: attention, images that are normalised inside, rows, recurrent layers."""

from functools import partial

import numpy as np
import pytest

import learningcurves as lc

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.func import functional_call  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

from learningcurves.networks import extract_features, train  # noqa: E402

DATA = lc.load_digits_classes((0, 1, 2), n_train=60)
PROBLEM = lc.poison(DATA, lc.SolidPatch(size=2), fraction=0.2, labels=0)


class Patches(nn.Module):
    """A transformer on patches of an image."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(1, 4, 4, 4)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 4, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.encoder(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


def dense_slope(module, reg, damping):
    """Minus g_t H^-1 g_b with the Hessian written out by double backward."""
    module = module.double().eval()
    names, shapes = zip(*((n, p.shape) for n, p in module.named_parameters()), strict=True)
    start = torch.cat([p.detach().reshape(-1) for p in module.parameters()])

    def loss(w, part, reduction):
        X = torch.tensor(getattr(PROBLEM, f"X_{part}")).reshape(-1, 1, 8, 8)
        y = torch.tensor(getattr(PROBLEM, f"y_{part}"))
        pieces = w.split([int(np.prod(shape)) for shape in shapes])
        weights = {n: piece.reshape(shape) for n, piece, shape in zip(names, pieces, shapes, strict=True)}
        return nn.functional.cross_entropy(functional_call(module, weights, (X,)), y, reduction=reduction)

    def clean(w):
        return loss(w, "clean", "sum") + reg / 2 * w.square().sum()

    H = torch.autograd.functional.hessian(clean, start) + damping * torch.eye(len(start), dtype=torch.float64)
    backdoor, triggered = (
        torch.autograd.functional.jacobian(partial(loss, part=part, reduction=how), start)
        for part, how in (("backdoor", "sum"), ("triggered", "mean"))
    )
    return -float(triggered @ torch.linalg.solve(H, backdoor))


def test_all_parameters_of_a_transformer_have_a_slope():
    torch.manual_seed(0)
    module = train(Patches(), PROBLEM, beta=0.0, epochs=2, lr=0.01, progress=False).module
    fast = torch.backends.mha.get_fastpath_enabled()
    found = lc.backdoor_slope(module, PROBLEM, parameters="all", reg=1.0, damping=1000.0)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel([SDPBackend.MATH]):
            reference = dense_slope(module, 1.0, 1000.0)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    np.testing.assert_allclose(found.value, reference, rtol=1e-5)  # conjugate gradients stop at 1e-6


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows = nn.GRU(8, 4, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.rows(x.squeeze(1))[0][:, -1])


def test_all_parameters_of_a_recurrent_network_have_a_slope():
    torch.manual_seed(0)
    module = Recurrent()
    found = lc.backdoor_slope(module, PROBLEM, parameters="all", reg=1.0, damping=50.0)
    np.testing.assert_allclose(found.value, dense_slope(module, 1.0, 50.0), rtol=1e-5)


class Normalised(nn.Module):
    """Reads images as they are, though its first layer with weights is linear on all pixels."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((1,), 0.3))
        self.out = nn.Linear(64, 3)

    def forward(self, x):
        return self.out((x - self.mean[:, None, None]).flatten(1))


@pytest.mark.parametrize(
    "module", [Normalised(), nn.Sequential(nn.Linear(64, 3)), nn.Sequential(nn.Flatten(), nn.Linear(64, 3))]
)
def test_images_go_in_as_they_are_unless_the_network_takes_rows(module):
    modes = [part.training for part in module.modules()]
    features = extract_features(module, DATA)
    np.testing.assert_allclose(
        features.X_train + (0.3 if isinstance(module, Normalised) else 0.0), DATA.X_train, atol=1e-6
    )
    assert [part.training for part in module.modules()] == modes
