"""Adversarial neuron pruning: bounds at every step, the threshold's meaning, direction, resuming, refusals."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.defences.anp import alpha_sweep  # noqa: E402
from learningcurves.defences.pruning import n_pruned_at, pruned_copy  # noqa: E402
from learningcurves.defences.units import find_units  # noqa: E402
from learningcurves.errors import LearningCurvesError, SolveFailed  # noqa: E402

X = np.random.default_rng(0).random((40, 1, 6, 6)).astype(np.float32)
Y = np.arange(40) % 3


def make(kind="norm", seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if kind == "norm":
            return lc.SmallCNN((1, 6, 6), 3, 3)
        if kind == "plain":
            body = [nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 7), nn.ReLU(), nn.Dropout(0.2)]
            return nn.Sequential(*body, nn.Linear(7, 3))
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))


def quick(network=None, data=(X, Y), **options):
    chosen = {"iterations": 3, "batch_size": 8, "progress": False, **options}
    return lc.defend_anp(make() if network is None else network, data, **chosen)


def test_the_clean_part_of_a_problem_is_taken(attack, network):
    """As by SODA: the same samples given as arrays, as the clean part of a problem, and as a data set."""
    arrays = attack.X_clean.reshape(-1, 1, 8, 8).copy(), attack.y_clean.copy()
    data = lc.Dataset(attack.X_clean, attack.y_clean, attack.X_test, attack.y_test, image_shape=(1, 8, 8))
    masks = [quick(network, given).mask for given in (arrays, attack, data)]
    assert np.array_equal(masks[0], masks[1]) and np.array_equal(masks[0], masks[2])


@settings(max_examples=12)
@given(
    eps=st.sampled_from([0.0, 0.4, 1.5]),
    steps=st.integers(1, 3),
    project=st.booleans(),
    alpha=st.floats(0, 1),
    lr=st.sampled_from([0.2, 50.0]),
    kind=st.sampled_from(["norm", "plain"]),
    seed=st.integers(0, 9),
)
def test_masks_and_noise_stay_in_bounds_at_every_step(eps, steps, project, alpha, lr, kind, seed):
    seen = []
    options = {"eps": eps, "steps": steps, "project": project, "alpha": alpha, "lr": lr, "seed": seed}
    quick(make(kind), callback=lambda *state: seen.append(state), threshold=0.0, **options)
    assert [state[0] for state in seen] == [1, 2, 3]
    reach = eps if project else 2 * eps
    for _, mask, noise, bias_noise in seen:
        assert mask.min() >= 0 and mask.max() <= 1
        assert noise.abs().max() <= reach * (1 + 1e-6) and bias_noise.abs().max() <= reach * (1 + 1e-6)
    if eps and not project:
        assert max(float(state[2].abs().max()) for state in seen) > eps  # as released: a start plus a whole step


def test_a_step_is_what_the_equations_say():
    """One iteration without noise or momentum against a gradient taken by hand through a rebuilt network."""
    network = make()
    states = []
    quick(network, eps=0.0, iterations=1, lr=0.1, momentum=0.0, threshold=0.0, batch_size=40, seed=3,
          callback=lambda *s: states.append(s))  # fmt: skip
    from learningcurves.streams import generator

    draws = generator(3, use="anp", iteration=0).integers(40, size=40)
    images, labels = torch.from_numpy(X[draws]), torch.from_numpy(Y[draws])
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    network.train()
    network.zero_grad()
    nn.functional.cross_entropy(network(images), labels).backward()
    by_hand = torch.cat([norm.weight.grad * norm.weight.detach() for norm in norms])
    expected = (1 - 0.1 * by_hand).clamp(0, 1)  # dL/dm = gamma dL/dgamma
    np.testing.assert_allclose(states[0][1].numpy(), expected.detach().numpy(), atol=1e-6)


def test_the_given_network_is_never_changed(network, clean_data, equal):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.train()
    defended = quick(network, clean_data, threshold=0.99)
    assert equal(before, network.state_dict()) and network.training and not defended.module.training
    assert all(p.requires_grad for p in network.parameters())
    network.eval()
    original = dict(defended.original.state_dict())
    changed = [k for k, v in defended.module.state_dict().items() if not torch.equal(v, original[k])]
    assert all(name.endswith(".weight") for name in changed)  # biases and running statistics stay


@pytest.fixture
def equal():
    return lambda a, b: all(torch.equal(a[k], b[k]) for k in a)


def test_threshold_zero_prunes_nothing_and_others_prune_up_to_them(equal):
    network, mask = make(), np.arange(21) / 20
    units = find_units(network, torch.from_numpy(X[:2]))
    assert units.n == 21 and n_pruned_at(mask, 0.0) == 0  # though one mask is 0
    assert equal(pruned_copy(network, units, mask, threshold=0.0).state_dict(), network.state_dict())
    for threshold, n in ((0.05, 2), (0.5, 11), (0.95, 20)):
        module = pruned_copy(network, units, mask, threshold=threshold)
        scales = torch.cat([p.weight for p in module.modules() if isinstance(p, nn.BatchNorm2d)])
        assert int((scales == 0).sum()) == n == n_pruned_at(mask, threshold)
        by_number = pruned_copy(network, units, mask, number=n)
        assert equal(module.state_dict(), by_number.state_dict())
    ties = pruned_copy(network, units, np.ones(21), number=4)
    assert sum(int((p.weight == 0).sum()) for p in ties.modules() if isinstance(p, nn.BatchNorm2d)) == 4


@pytest.fixture(scope="module")
def defended(network, clean_data):
    return lc.defend_anp(network, clean_data, iterations=400, batch_size=64, lr=0.4, progress=False)


def test_attack_success_falls_before_accuracy_does(defended, attack):
    """Direction, not published figures: this network has channels to spare."""
    table = defended.oracle(attack)
    base = table.iloc[0]
    assert base.threshold == 0 and base.n_pruned == 0 and base.asr > 0.95
    good = table[(table.asr < base.asr - 0.25) & (table.acc > base.acc - 0.02)]
    assert len(good), table
    assert (table.asr_low <= table.asr).all() and (table.asr <= table.asr_high).all()
    assert good.ra.max() > 0.2  # and the right answers come back


def test_the_threshold_is_chosen_by_clean_accuracy_alone(defended, attack, clean_data):
    chosen = defended.threshold
    curve = defended.curve
    upto = curve[curve.threshold <= chosen]
    assert (upto.acc >= defended.accuracy_before.value - 0.02 - 1e-12).all()
    later = curve[curve.threshold > chosen]
    assert later.empty or later.acc.iloc[0] < defended.accuracy_before.value - 0.02
    assert defended.measured_on == "held-out clean samples" and defended.accuracy_after.n == 60
    assert defended.scores(attack)["asr"].value < 1
    assert len(defended.pruned) == n_pruned_at(defended.mask, chosen)
    assert list(defended.pruned.columns) == ["layer", "channel", "mask", "scale"]
    assert (defended.pruned["mask"].diff().dropna() >= 0).all()


def test_the_choice_may_be_among_numbers_of_neurons(network, defended, attack, clean_data, equal, tmp_path):
    """The same masks by number: each step is a step of the order of the masks, and the choice keeps to clean accuracy."""
    numbers = [0, 3, 8, 21]
    table = defended.oracle(attack, numbers=numbers)
    assert table.threshold.isna().all() and table.n_pruned.tolist() == numbers
    thresholds = defended.oracle(attack, [0.0, 0.5])
    same = defended.oracle(attack, numbers=thresholds.n_pruned.tolist())
    assert same.asr.tolist() == thresholds.asr.tolist() and same.acc.tolist() == thresholds.acc.tolist()
    options = {"iterations": 40, "batch_size": 64, "lr": 0.4, "progress": False}
    found = lc.defend_anp(network, clean_data, numbers=numbers, tol=0.05, **options)
    chosen = len(found.pruned)
    assert found.threshold is None and chosen in numbers and found.settings["number"] == chosen
    assert found.curve.n_pruned.tolist() == numbers
    kept = found.curve.acc >= found.accuracy_before.value - 0.05 - 1e-12
    assert kept[found.curve.n_pruned <= chosen].all()
    assert chosen == numbers[-1] or not kept[found.curve.n_pruned > chosen].iloc[0]
    assert equal(found.module.state_dict(), found.at(number=chosen).state_dict())
    display = found.plot(oracle=attack)
    assert display.ax_.get_xlabel() == "neurons cut (count)" and display.save(tmp_path / "numbers.png")
    # nothing may be lost: nothing is cut, whatever the numbers
    strict = lc.defend_anp(network, clean_data, numbers=[len(found.mask) - 1], tol=0.0, **options)
    assert len(strict.pruned) == 0 and equal(strict.module.state_dict(), network.state_dict())


def test_the_result_is_saved_safely_and_drawn(defended, attack, tmp_path, equal):
    from safetensors import safe_open

    from learningcurves.networks import load_weights

    path = defended.save(tmp_path / "anp.safetensors")
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["defence"])
    np.testing.assert_array_equal(np.array(facts["mask"], dtype=np.float32), defended.mask)
    again = load_weights(lc.SmallCNN((1, 8, 8), 10, 24), path)
    assert equal(defended.module.state_dict(), again.state_dict())
    assert facts["method"] == "anp" and facts["threshold"] == defended.threshold
    assert facts["settings"]["project"] is False and "accuracy_after" in facts
    display = defended.plot(oracle=attack)
    words = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    assert any("oracle" in word for word in words) and any("chosen" in word for word in words)
    assert display.save(tmp_path / "anp.png")[0].stat().st_size > 5000
    assert "accuracy" in repr(defended) and "Conv2d" not in repr(defended)


def test_seeds_reproduce_exactly_and_runs_resume(tmp_path, equal):
    network = make("plain")  # with dropout
    options = {"iterations": 230, "batch_size": 8, "seed": 4, "threshold": 0.0}
    whole = quick(network, **options)
    again = quick(network, **options)
    np.testing.assert_array_equal(whole.mask, again.mask)
    assert not np.array_equal(whole.mask, quick(network, **{**options, "seed": 5}).mask)

    class Stop(Exception):
        pass

    def interrupt(iteration, *state):
        if iteration == 150:
            raise Stop

    path = tmp_path / "state.safetensors"
    with pytest.raises(Stop):
        quick(network, checkpoint=path, callback=interrupt, **options)
    seen = []
    resumed = quick(network, checkpoint=path, callback=lambda i, *state: seen.append(i), **options)
    assert seen[0] == 101 and seen[-1] == 230
    np.testing.assert_array_equal(resumed.mask, whole.mask)
    assert [h["iteration"] for h in resumed.history] == [100, 200, 230]
    longer = quick(network, checkpoint=path, **{**options, "iterations": 240})
    np.testing.assert_array_equal(longer.mask, quick(network, **{**options, "iterations": 240}).mask)
    for changed in ({"eps": 0.3}, {"seed": 5}):
        with pytest.raises(LearningCurvesError, match="other settings"):
            quick(network, checkpoint=path, **{**options, **changed})
    with pytest.raises(LearningCurvesError, match="other settings"):
        quick(make("plain", seed=1), checkpoint=path, **options)
    with pytest.raises(LearningCurvesError, match="beyond"):
        quick(network, checkpoint=path, **{**options, "iterations": 100})
    path.write_bytes(b"nothing")
    with pytest.raises(LearningCurvesError, match="not readable"):
        quick(network, checkpoint=path, **options)


def test_without_batch_norm_convolutions_and_linear_layers_are_pruned():
    network = make("plain")
    defended = quick(network, number=4)
    assert [layer.name for layer in defended.units.layers] == ["0", "3"] and defended.units.n == 12
    rows = [(network[i].weight.flatten(1), defended.module[i].weight.flatten(1)) for i in (0, 3)]
    assert sum(int((after == 0).all(1).sum()) for _, after in rows) == 4
    assert torch.equal(defended.module[6].weight, network[6].weight)  # the output layer is never pruned
    assert quick(make(), units=["blocks.2.1"], number=2).units.n == 12
    assert quick(make(), units="layers", number=2).units.n == 21


def test_data_may_be_a_dataset_a_torch_data_set_or_a_loader(digits):
    from torch.utils.data import DataLoader, TensorDataset

    tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    masks = [quick(data=data, threshold=0.0).mask for data in ((X, Y), tensors, DataLoader(tensors, batch_size=7))]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])
    rows = quick(data=(X.reshape(40, -1), Y), image_shape=(1, 6, 6), threshold=0.0)
    np.testing.assert_array_equal(masks[0], rows.mask)
    named = quick(data=(X, np.array(["a", "b", "c"])[Y]), classes=["a", "b", "c"], threshold=0.0)
    np.testing.assert_array_equal(masks[0], named.mask)
    assert lc.defend_anp(lc.SmallCNN((1, 8, 8), 10, 2), digits, iterations=1, progress=False).accuracy_before.n > 100


def test_alpha_sweep():
    problem = lc.poison(lc.make_synthetic(3, n=60, image_shape=(1, 6, 6)), lc.SolidPatch(2), 0.2, labels=0)
    table = alpha_sweep(make(), (X, Y), problem, alphas=(0.0, 1.0), iterations=2, batch_size=8, progress=False)
    assert set(table.alpha) == {0.0, 1.0} and {"threshold", "acc", "asr", "ra", "chosen"} <= set(table.columns)


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.LSTM(6, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.body(x[:, 0])[0][:, -1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: quick(data=(X[:0], Y[:0])), "holds no samples"),
        (lambda: quick(data=X), "expected \\(X, y\\)"),
        (lambda: quick("network"), "expected a torch.nn.Module"),
        (lambda: quick(make("linear")), "no prunable unit"),
        (lambda: quick(Strange()), "'body' is a LSTM"),
        (lambda: quick(make("plain"), units="batchnorm"), "no batch norm"),
        (lambda: quick(units=["blocks.0.2"]), "ReLU"),
        (lambda: quick(units=["conv9"]), "does not have"),
        (lambda: quick(units="channels"), "units"),
        (
            lambda: quick(
                nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, affine=False), nn.Flatten(), nn.Linear(36, 3))
            ),
            "affine=False",
        ),
        (lambda: quick(threshold=1.0), "prunes all 21 neurons"),
        (lambda: quick(number=21), "prunes all 21 neurons"),
        (lambda: quick(number=22), "21 neurons"),
        (lambda: quick(threshold=0.1, number=2), "not both"),
        (lambda: quick(threshold=-0.1), "threshold"),
        (lambda: quick(thresholds=[]), "thresholds"),
        (lambda: quick(thresholds=[2]), "thresholds"),
        (lambda: quick(numbers=[]), "numbers"),
        (lambda: quick(numbers=[21]), "one must stay"),
        (lambda: quick(select="asr"), "clean_drop"),
        (lambda: quick(eps=-1), "eps"),
        (lambda: quick(alpha=1.2), "alpha"),
        (lambda: quick(holdout=0), "clean samples leaves"),
        (lambda: quick(data=(X[:2], Y[:2])), "Give more clean samples"),
        (lambda: quick(data=(X, Y + 1)), "no outputs 0 .. 2"),
        (lambda: quick(data=(X, Y), classes=[0, 1, 2, 3]), "must agree"),
        (lambda: quick(data=((255 * X).astype(np.uint8), Y)), "bytes"),
        (lambda: quick(data=(X, Y[:3])), "labels for"),
        (lambda: quick(nn.Sequential(nn.Flatten(), nn.Linear(36, 1))), "K >= 2"),
        (lambda: alpha_sweep(make(), (X, Y), None, alpha=0.2), "alphas"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(LearningCurvesError, match=says):
        call()


def test_a_loss_that_is_not_finite_has_a_status():
    network = make()
    with torch.no_grad():
        network.head.bias[0] = float("inf")
    with pytest.raises(SolveFailed, match="infinite or NaN"):
        quick(network, threshold=0.0)
