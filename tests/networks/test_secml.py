"""secml-torch: its native PGD and ours agree; adapters both ways; two known faults of its data sets do not reach ours."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("secmlt", reason="needs secml-torch: pip install -c constraints.txt learningcurves[secml]")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.errors import InvalidInput  # noqa: E402
from learningcurves.networks import secml  # noqa: E402
from learningcurves.networks.pgd import PGD  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.random((20, 1, 4, 4)).astype(np.float32)
Y = RNG.integers(0, 4, 20)


def make_network():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).eval()


@pytest.mark.parametrize(("eps", "steps", "step_size"), [(8 / 255, 10, 2 / 255), (0.1, 6, 0.03), (0.3, 12, 0.1)])
def test_our_pgd_is_its_native_one(eps, steps, step_size):
    from secmlt.adv.backends import Backends
    from secmlt.adv.evasion.pgd import PGD as Native

    module = make_network()
    # its num_steps counts the points that are scored, the start among them; ours counts the steps between them
    attack = Native("linf", eps, steps + 1, step_size, random_start=False, backend=Backends.NATIVE)
    theirs = secml.from_secml_attack(attack, module)(X, Y)
    ours = PGD(eps, steps, step_size, random_start=False).perturb(module, X, Y)
    np.testing.assert_allclose(ours.X, theirs, atol=2e-7)
    problem = lc.poison_clean_label(
        lc.make_synthetic(4, n=40, image_shape=(1, 4, 4)), lc.SolidPatch(1), 2, 0.5,
        perturb=secml.from_secml_attack(attack, module),
    )  # fmt: skip
    assert problem.provenance["perturbation"]["largest_change"] <= eps + 1e-6


def test_models_and_data_sets_both_ways():
    module = make_network()
    model = secml.to_secml_model(module)
    assert secml.from_secml_model(model) is module
    predicted = model.predict(torch.from_numpy(X)).numpy()
    np.testing.assert_array_equal(predicted, module(torch.from_numpy(X)).argmax(1).numpy())
    dataset = secml.to_secml_dataset(X.reshape(20, -1), Y, image_shape=(1, 4, 4))
    for back in (dataset, DataLoader(dataset, batch_size=6)):
        samples, labels = secml.from_secml_dataset(back)
        np.testing.assert_array_equal(samples, X)
        np.testing.assert_array_equal(labels, Y)


def test_its_backdoored_data_set_through_our_adapters_is_right():
    from secmlt.adv.poisoning.backdoor import BackdoorDatasetPyTorch

    trigger = lc.SolidPatch(2)
    dataset = secml.to_secml_dataset(X, Y)
    poisoned = BackdoorDatasetPyTorch(
        dataset, secml.to_secml_trigger(trigger), trigger_label=3, poisoned_indexes=[1, 4]
    )
    samples, labels = secml.from_secml_dataset(poisoned)
    expected = Y.copy()
    expected[[1, 4]] = 3
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(samples[[1, 4]], trigger.apply(X[[1, 4]]))
    np.testing.assert_array_equal(secml.from_secml_dataset(dataset)[0], X)  # the source is as it was


def test_tensor_labels_are_refused_with_the_reason():
    from secmlt.adv.poisoning.backdoor import BackdoorDatasetPyTorch

    tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    broken = BackdoorDatasetPyTorch(tensors, lambda x: x, trigger_label=3)
    with pytest.raises(InvalidInput, match="int labels"):
        secml.from_secml_dataset(broken)
