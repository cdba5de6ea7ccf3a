"""One torch thread, and a backdoored network on handwritten digits that all tests of defences share."""

import pytest

import learningcurves as lc
from learningcurves.poisoning.patches import badnets_patch


@pytest.fixture(autouse=True)
def one_thread():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits():
    return lc.load_digits_classes(seed=1)


@pytest.fixture(scope="session")
def attack(digits):
    return lc.poison(digits, badnets_patch(), 0.1, labels=0, seed=1)


@pytest.fixture(scope="session")
def clean_data(digits):
    """A few hundred clean samples, images and labels."""
    return digits.X_train[:300].reshape(-1, 1, 8, 8), digits.y_train[:300]


def train_network(problem, beta=1.0, width=24):
    torch = pytest.importorskip("torch")
    from learningcurves.networks import SmallCNN, train

    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = SmallCNN((1, 8, 8), 10, width)
    options = {"epochs": 8, "batch_size": 32, "lr": 0.05, "schedule": "one_cycle", "weight_decay": 5e-4}
    return train(module, problem, beta=beta, progress=False, record="none", **options).module


@pytest.fixture(scope="session")
def network(attack):
    """Has learned the digits and the backdoor; 168 channels of batch norm, more than the task needs."""
    return train_network(attack)


@pytest.fixture(scope="session")
def clean_network(attack):
    return train_network(attack, beta=0.0)
