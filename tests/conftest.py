"""What all tests share: deterministic property tests, and the data folder when there is one."""

import matplotlib
import pytest
from hypothesis import HealthCheck, settings

from learningcurves.data import readers
from learningcurves.errors import InvalidInput

matplotlib.use("Agg")
# no deadline: a busy machine must not fail a property; derandomized: a failure is the same on every run
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def data_root(what="mnist", marker="train-images-idx3-ubyte.gz"):
    """Return the data folder that holds `what`, or None."""
    try:
        return readers.find_folder(what, (what,), lambda place: (place / marker).is_file()).parent
    except InvalidInput:
        return None


def _root_or_skip(what, marker):
    root = data_root(what, marker)
    if root is None:
        pytest.skip(f"needs the {what} files: set LEARNINGCURVES_DATA to the data folder")
    return root


@pytest.fixture(scope="session")
def mnist_root():
    """Return the data folder with MNIST's idx files; tests that ask for it are skipped where there is none."""
    return _root_or_skip("mnist", "train-images-idx3-ubyte.gz")


@pytest.fixture(scope="session")
def cifar10_root():
    """Return the data folder with the coded CIFAR-10."""
    return _root_or_skip("cifar10", "train.npz")


@pytest.fixture(scope="session")
def imagenette_root():
    """Return the data folder with the coded Imagenette."""
    return _root_or_skip("imagenette", "train.npz")


@pytest.fixture(scope="session")
def gtsrb_root():
    """Return the data folder with the coded GTSRB."""
    return _root_or_skip("gtsrb", "train.npz")


@pytest.fixture(scope="session")
def mnist_m_root():
    """Return the data folder with the coded MNIST-M."""
    return _root_or_skip("mnist_m", "train.npz")
