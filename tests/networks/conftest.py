"""One torch thread for all tests of networks, and a small problem with small modules."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.datasets import load_digits  # noqa: E402
from torch import nn  # noqa: E402

from learningcurves.data.problem import BackdoorProblem  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stamp(images):
    images = images.copy()
    images[:, :, -2:, -2:] = 1.0
    return images


def digits_problem(n_clean=120, n_backdoor=24, n_test=60, n_classes=10):
    X, y = load_digits(n_class=n_classes, return_X_y=True)
    X = X.reshape(-1, 1, 8, 8) / 16
    clean, bad = slice(0, n_clean), slice(n_clean, n_clean + n_backdoor)
    test = slice(600, 600 + n_test) if n_classes > 5 else slice(250, 250 + n_test)
    attacker = (y + 1) % n_classes
    return BackdoorProblem(
        X[clean],
        y[clean],
        stamp(X[bad]),
        attacker[bad],
        X[test],
        y[test],
        stamp(X[test]),
        attacker[test],
        y_source=y[test],
        value_range=(0, 1),
    )


@pytest.fixture(scope="session")
def problem():
    return digits_problem()


@pytest.fixture
def make_mlp():
    """Return a maker of a small network without batch norm, with reproducible weights."""

    def make(seed=0, n_outputs=10, dtype=torch.float64, dropout=0.0):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            body = [nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(dropout)]
            return nn.Sequential(*body, nn.Linear(16, n_outputs)).to(dtype)

    return make


@pytest.fixture
def make_cnn():
    def make(seed=0, dtype=torch.float32, width=4):
        from learningcurves.networks import SmallCNN

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return SmallCNN((1, 8, 8), 10, width).to(dtype)

    return make


def same_weights(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture
def equal_weights():
    return same_weights


@pytest.fixture
def global_random_state_untouched():
    """Check after the test that the global generators are as they were."""
    import random

    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    python_state = random.getstate()
    yield
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert random.getstate() == python_state
