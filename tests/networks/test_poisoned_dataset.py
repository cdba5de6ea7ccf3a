"""Poisoned torch data sets: the samples of `poison`, labels of the right type, the source never changed; batch share."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402
from torch.utils.data import Dataset as TorchDataset  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.errors import LearningCurvesError  # noqa: E402
from learningcurves.networks import as_network_data, train  # noqa: E402
from learningcurves.networks.batches import epoch_batches, steps_of  # noqa: E402
from learningcurves.networks.poisoned import PoisonedDataset  # noqa: E402

DATA = lc.make_synthetic(4, n=60, image_shape=(1, 5, 5), seed=1)
IMAGES = torch.from_numpy(DATA.X_train.reshape(-1, 1, 5, 5).copy())
LABELS = torch.from_numpy(DATA.y_train.copy())


class IntLabels(TorchDataset):
    def __init__(self, X, y):
        self.X, self.targets = X, y.tolist()

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return self.X[index], self.targets[index]


@pytest.mark.parametrize("make", [TensorDataset, IntLabels])
@pytest.mark.parametrize("trigger", [lc.RandomPatch(2, seed=1), lc.Blend(), lc.Invisible()], ids=repr)
def test_the_same_samples_as_for_arrays(make, trigger):
    options = {"labels": "next", "seed": 4}
    problem = lc.poison(DATA, trigger, 0.25, **options)
    dataset = PoisonedDataset(make(IMAGES, LABELS), trigger, 0.25, **options)
    assert dataset.facts["indices"] == problem.provenance["indices"]
    assert np.flatnonzero(dataset.is_backdoor).tolist() == sorted(problem.provenance["indices"])
    for name in ("n_poison", "fraction_of_all", "fraction_of_candidates", "fraction_of_target_class", "trigger"):
        assert dataset.facts[name] == problem.provenance[name]
    data = as_network_data({**dataset.parts, "test": (IMAGES.numpy(), LABELS)}, dtype=torch.float64)
    order = np.argsort(problem.provenance["indices"])
    backdoor = data.X[data.is_backdoor].flatten(1).numpy()
    np.testing.assert_array_equal(backdoor, problem.X_backdoor[order])
    np.testing.assert_array_equal(data.y[data.is_backdoor].numpy(), problem.y_backdoor[order])
    np.testing.assert_array_equal(data.X[~data.is_backdoor].flatten(1).numpy(), problem.X_clean)


@pytest.mark.parametrize("make", [TensorDataset, IntLabels])
def test_labels_are_those_asked_for_whatever_their_type(make):
    """A released data-set class turns tensor labels into uninitialised tensors of that length."""
    for target in (0, 3):
        dataset = PoisonedDataset(make(IMAGES, LABELS), lc.SolidPatch(2), 0.5, labels=target)
        for index in np.flatnonzero(dataset.is_backdoor):
            label = dataset[index][1]
            assert type(label) is (torch.Tensor if make is TensorDataset else int)
            assert int(label) == target and (not torch.is_tensor(label) or label.shape == ())
        batch = next(iter(DataLoader(dataset, batch_size=60)))
        assert batch[1].shape == (60,) and batch[1].dtype == torch.int64


def test_the_source_is_never_changed():
    """A released wrapper hands out views of the source, so that a trigger written in place spoils it."""
    before = IMAGES.clone()
    dataset = PoisonedDataset(TensorDataset(IMAGES, LABELS), lc.SolidPatch(3), 1.0, labels=2)
    for index in range(len(dataset)):
        dataset[index][0].mul_(1)
    stamped = dataset[int(np.flatnonzero(dataset.is_backdoor)[0])][0]
    stamped.zero_()
    assert torch.equal(IMAGES, before)


def test_test_part_transform_and_bytes():
    source = TensorDataset(IMAGES, LABELS)
    test = PoisonedDataset(source, lc.SolidPatch(2), labels=1, part="test", transform=lambda x: x - 1)
    assert len(test) == int((LABELS != 1).sum()) and all(int(test[i][1]) == 1 for i in range(len(test)))
    assert torch.all(test[0][0][:, -2:, -2:] == 0)  # stamped first (1), then transformed (1 - 1)
    bytes_ = (IMAGES * 255).round().to(torch.uint8)
    trigger = lc.Blend(np.full((5, 5), 0.5), alpha=0.3)
    dataset = PoisonedDataset(TensorDataset(bytes_, LABELS), trigger, count=5, labels=0, value_range=(0, 255))
    index = int(np.flatnonzero(dataset.is_backdoor)[0])
    expected = np.rint(0.7 * bytes_[index].numpy() + 0.3 * 127.5)
    assert dataset[index][0].dtype == torch.uint8
    np.testing.assert_array_equal(dataset[index][0].numpy(), expected)


def test_torch_data_sets_become_arrays_for_every_attack(global_random_state_untouched):
    bytes_ = (IMAGES * 255).round().to(torch.uint8)
    loader = DataLoader(TensorDataset(bytes_, LABELS), batch_size=16, shuffle=True)
    data = lc.dataset_from_torch(TensorDataset(bytes_, LABELS), loader, value_range=(0, 255))
    np.testing.assert_allclose(data.X_train, bytes_.flatten(1).numpy() / 255, atol=1e-15)
    assert data.image_shape == (1, 5, 5) and np.array_equal(np.sort(data.y_test), np.sort(data.y_train))
    order = np.lexsort(data.X_test.T), np.lexsort(data.X_train.T)
    np.testing.assert_array_equal(data.y_test[order[0]], data.y_train[order[1]])  # shuffled with their labels
    assert lc.poison_clean_label(data, lc.SolidPatch(2), 1, 0.5).n_backdoor == 7
    assert lc.poison_semantic(data, lambda x: x.mean(axis=(1, 2, 3)) > 0.5, 1).n_backdoor > 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: PoisonedDataset(s, "patch", 0.1), "expected a trigger"),
        (lambda s: PoisonedDataset(3, lc.SolidPatch(2), 0.1), "map-style"),
        (lambda s: PoisonedDataset(s, lc.SolidPatch(2)), "`fraction`.*or `count`"),
        (lambda s: PoisonedDataset(s, lc.SolidPatch(2), 0.1, part="test"), "part='train'"),
        (lambda s: PoisonedDataset(s, lc.SolidPatch(2), 0.1, part="val"), "part"),
        (lambda s: PoisonedDataset(s, lc.SolidPatch(2), 0.1, y=[1, 2]), "one label each"),
        (lambda s: PoisonedDataset(s, lc.SolidPatch(2), 0.1, labels=9), "no class"),
        (lambda s: PoisonedDataset(TensorDataset(IMAGES, LABELS + 0.5), lc.SolidPatch(2), 0.1), "one int a sample"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(LearningCurvesError, match=says):
        call(TensorDataset(IMAGES, LABELS))


def semantic_data(share):
    feature = {"train": np.arange(6), "test": np.arange(4)}
    problem = lc.poison_semantic(DATA, feature, 3, source=[0, 1, 2], batch_share=share)
    return as_network_data(problem)


def test_batch_share_fills_every_batch():
    data = semantic_data(0.3125)
    n_clean, m = int((~data.is_backdoor).sum()), int(data.is_backdoor.sum())
    batches = epoch_batches(data, 16, seed=1, epoch=2)
    assert len(batches) == steps_of(data, 16) and all(len(batch) <= 17 for batch in batches)
    visits = np.bincount(np.concatenate(batches), minlength=n_clean + m)
    assert (visits[:n_clean] == 1).all() and visits[n_clean:].min() >= 1
    assert visits[n_clean:].max() - visits[n_clean:].min() <= 1
    for batch in batches:
        share = (batch >= n_clean).mean()
        assert abs(share - 0.3125) < 0.08
    plain = semantic_data(None)
    assert sorted(np.concatenate(epoch_batches(plain, 16, 1, 2)).tolist()) == list(range(n_clean + m))


def test_training_follows_the_batch_share(make_cnn):
    results = {}
    for share in (None, 0.5):
        feature = {"train": np.arange(6), "test": np.arange(4)}
        problem = lc.poison_semantic(DATA, feature, 3, source=[0, 1, 2], batch_share=share)
        module = lc.SmallCNN((1, 5, 5), 4, 4)
        result = train(module, problem, epochs=3, batch_size=16, seed=1, progress=False)
        assert result.settings["batch_share"] == share
        results[share] = result.history[-1]["loss_train_backdoor"]
    assert results[0.5] < results[None]  # seen many times an epoch, they are learned sooner
