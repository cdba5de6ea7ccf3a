"""Repair and the other defences: what may change, to the last bit; what they do to a real backdoor; bad input."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import soda_helpers as helpers  # noqa: E402
from torch import nn  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.defences.clean_samples import clean_samples  # noqa: E402
from learningcurves.defences.paths import path_masks  # noqa: E402
from learningcurves.defences.reconstruct import reconstruct  # noqa: E402
from learningcurves.defences.soda_neurons import feasibility, neuron_scores, outstanding_neurons  # noqa: E402
from learningcurves.defences.tail import make_tail  # noqa: E402
from learningcurves.errors import InvalidInput, NotSupported, SolveFailed, Status  # noqa: E402
from learningcurves.networks import ResNet18  # noqa: E402
from learningcurves.networks.weights import weights_digest  # noqa: E402

PAIR = {"target": 2, "victim": 7}


@pytest.fixture(scope="module")
def case():
    return helpers.backdoored()


@pytest.fixture(scope="module")
def report(case):
    return lc.detect_soda(case[0], case[1])


def differing(one, two):
    """Return which entries differ, by parameter or buffer."""
    return {k: a != b for (k, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True)}


def test_the_case_has_a_backdoor(case):
    assert case[3][0] > 0.8 and len(case[2]) >= 10


@pytest.mark.parametrize(
    ("mode", "layers"), (("paper", ("head.weight", "blocks.2.")), ("last_layer", ("head.weight",)))
)
def test_a_repair_changes_only_the_weights_it_says_to_the_last_bit(case, report, mode, layers):
    network, data = case[0], case[1]
    repaired = lc.repair_soda(network, report, data, mode=mode, select="top", top=0.2, **PAIR, epochs=2)
    neurons = repaired.outstanding.neurons
    assert len(neurons) == round(0.2 * 32)
    others = np.setdiff1d(np.arange(32), neurons)
    for name, moved in differing(network, repaired.network).items():
        if name == "head.weight":
            assert moved[:, neurons].any() and not moved[:, others].any()
        elif mode == "paper" and name in ("blocks.2.0.weight", "blocks.2.1.weight", "blocks.2.1.bias"):
            assert moved[neurons].any() and not moved[others].any()
        else:
            assert not moved.any(), name
    assert set(repaired.changed) == {n for n, m in differing(network, repaired.network).items() if m.any()}
    assert all(name.startswith(layers) for name in repaired.changed)
    assert repaired.changed["head.weight"] == 10 * len(neurons)
    # so the other neurons see the world as before
    X = torch.as_tensor(data[0][:50], dtype=torch.float32)
    before, after = (make_tail(n, X).forward(X)[0] for n in (network, repaired.network))
    assert torch.equal(before[:, others], after[:, others])


@pytest.mark.parametrize("mode", ("paper", "code", "last_layer"))
def test_the_given_network_is_never_modified_and_a_repair_repeats(case, report, mode):
    network = copy.deepcopy(case[0]).train()
    network.head.bias.requires_grad_(False)
    before, state = weights_digest(network), torch.random.get_rng_state()
    one, two = (
        lc.repair_soda(network, report, case[1], mode=mode, **PAIR, epochs=1, max_steps=200, n_images=20) for _ in "ab"
    )
    assert weights_digest(network) == before and network.training
    assert not network.head.bias.requires_grad and all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert weights_digest(one.network) == weights_digest(two.network) != before
    assert not one.network.training and not one.network.head.bias.requires_grad
    other = lc.repair_soda(network, report, case[1], mode=mode, **PAIR, epochs=1, max_steps=200, n_images=20, seed=1)
    assert weights_digest(other.network) != weights_digest(one.network)


@pytest.mark.parametrize("mode", ("code", "last_layer"))
def test_a_repair_takes_the_backdoor_out(case, report, mode):
    network, data, infected, (before, _) = case
    repaired = lc.repair_soda(network, report, data, mode=mode, **PAIR)
    after, right = helpers.shares(repaired.network, infected)
    assert after < 0.3 * before
    first, last = repaired.history[0], repaired.history[-1]
    assert first["called_target"] == 1.0 and last["called_target"] < 0.3
    assert last["accuracy"] > first["accuracy"] - 0.15  # the published 2 % is not reached with fixed settings
    assert repaired.reconstruction.n_reached > 0 and len(repaired.history) == 6
    assert f"{repaired.reconstruction.n_reached} of" in repr(repaired)
    if mode == "last_layer":
        assert right > 0.3


def test_code_leaves_shared_layers_and_statistics_changed(case, report):
    """What the paper's text denies and its code does: shared convolutions and batch-norm statistics move."""
    repaired = lc.repair_soda(case[0], report, case[1], mode="code", **PAIR, epochs=1, max_steps=200, n_images=20)
    moved = differing(case[0], repaired.network)
    assert moved["blocks.0.0.weight"].any() and moved["blocks.0.1.running_mean"].any()


@pytest.mark.parametrize("score", ("leave_one_out", "influence"))
def test_other_scores_name_neurons_in_the_same_interface(case, report, score):
    repaired = lc.repair_soda(case[0], report, case[1], score=score, **PAIR, epochs=1, n_images=10)
    assert repaired.settings["score"] == score and len(repaired.scores) == 32
    assert set(np.argsort(-repaired.scores)[:1]) <= set(repaired.outstanding.neurons)


# %% what lies on the paths


def test_paths_of_a_plain_network():
    network = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 7)).double()
    X = torch.as_tensor(helpers.points(40)[0])
    masks = path_masks(make_tail(network, X), X, [1, 4])
    assert set(masks) == {"4.weight", "2.weight", "2.bias"}  # the first layer has 12 rows too, and feeds all neurons
    assert masks["2.weight"].sum() == 24 and masks["2.weight"][[1, 4]].all() and masks["4.weight"][:, [1, 4]].all()


def test_paths_of_a_residual_network():
    network = helpers.seeded(lambda: ResNet18(7, 2, in_channels=1)).eval()
    X = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    names = set(path_masks(make_tail(network, X), X, [3, 5]))
    assert names == {"fc.weight", "layer4.1.conv2.weight", "layer4.1.bn2.weight", "layer4.1.bn2.bias"}


def test_a_layer_that_mixes_neurons_has_no_path_of_its_own():
    network = nn.Sequential(nn.Linear(6, 12), nn.LayerNorm(12), nn.Linear(12, 7)).double()
    X = torch.as_tensor(helpers.points(40)[0])
    assert set(path_masks(make_tail(network, X), X, [3])) == {"2.weight", "1.weight", "1.bias"}


# %% reconstruction


def test_each_image_is_reconstructed_as_if_it_were_alone(case):
    network, (X, y), *_ = case
    start = torch.as_tensor(X[y == 7][:6], dtype=torch.float32)
    network = copy.deepcopy(network).double()
    start = start.double()
    together = reconstruct(network, start, 2, max_steps=60)
    for i in range(6):
        alone = reconstruct(network, start[i : i + 1], 2, max_steps=60)
        torch.testing.assert_close(alone.images[0], together.images[i], rtol=1e-9, atol=1e-9)
        assert alone.steps[0] == together.steps[i] and alone.reached[0] == together.reached[i]


def test_an_image_stops_at_its_first_step_with_the_target(case):
    network, (X, y), *_ = case
    start = torch.as_tensor(X[y == 7][:20], dtype=torch.float32)
    found = reconstruct(network, start, 2)
    assert found.n_reached == 20 and (found.probability >= 0.99).all() and len(set(found.steps.tolist())) > 1
    shorter = reconstruct(network, start, 2, max_steps=int(found.steps.min()) - 1)
    assert shorter.n_reached == 0
    part = reconstruct(network, start, 2, max_steps=int(found.steps.median()))
    torch.testing.assert_close(part.reached, found.steps <= int(found.steps.median()))
    assert torch.equal(found.start, start)


def test_a_clamp_keeps_the_range_and_without_it_images_leave_it(case):
    network, (X, y), *_ = case
    start = torch.as_tensor(X[y == 7][:20], dtype=torch.float32)
    kept, free = reconstruct(network, start, 2, clamp=(0, 1)), reconstruct(network, start, 2)
    assert kept.low >= 0 and kept.high <= 1 and (free.low < 0 or free.high > 1)


def test_no_step_leaves_the_images():
    network = helpers.mlp()
    X = torch.as_tensor(helpers.points(20)[0])
    found = reconstruct(network, X, 0, max_steps=0)
    assert torch.equal(found.images, X) and (found.steps == 0).all()
    with pytest.raises(InvalidInput, match="clamp="):
        reconstruct(network, X, 0, clamp=(1, 0))


def test_no_image_reached_is_a_failure_with_a_status(case, report):
    with pytest.raises(SolveFailed, match="none of .* reached the target") as caught:
        lc.repair_soda(case[0], report, case[1], target=2, victim=1, max_steps=0)
    assert caught.value.status is Status.MAX_STEPS


# %% scores of neurons


def test_scores_against_their_definitions(case, report):
    network, (X, y), *_ = case
    network = copy.deepcopy(network).double()
    samples = clean_samples(network, (X, y))
    tail = make_tail(network, samples.X)
    victim = samples.of_class(7)
    with torch.no_grad():
        h, z = tail.forward(victim)
        W, bias = network.head.weight, network.head.bias
        by_hand = []
        for i in range(32):
            changed = h.clone()
            changed[:, i] = 0
            by_hand.append(float((z[:, 2] - (changed @ W.T + bias)[:, 2]).mean()))
    left_out = neuron_scores(tail, samples, report, 7, 2, score="leave_one_out")
    np.testing.assert_allclose(left_out, by_hand, rtol=1e-9, atol=1e-12)
    looped = make_tail(network, samples.X)
    object.__setattr__(looped, "weight", None)  # the general way: neurons set to zero one after the other
    np.testing.assert_allclose(
        neuron_scores(looped, samples, report, 7, 2, score="leave_one_out"), by_hand, rtol=1e-8, atol=1e-11
    )
    errors = []
    for n in (250, 4000):  # the same expectation, with an error that falls as 1 / sqrt(n)
        found = neuron_scores(tail, samples, report, 7, 2, score="influence", n_subsets=n)
        errors.append(np.sqrt(np.mean((found - by_hand) ** 2)))
    assert 2 < errors[0] / errors[1] < 8
    causal = neuron_scores(tail, samples, report, 7, 2)
    np.testing.assert_allclose(causal, np.abs(W[2].detach().numpy()), rtol=1e-6)


def test_outstanding_neurons_by_both_rules():
    scores = np.array([0.1, 0.2, 9.0, 0.15, 0.12, 7.0, 0.18, 0.11])
    assert outstanding_neurons(scores).neurons.tolist() == [2, 5]
    assert outstanding_neurons(scores, select="top", top=0.25).neurons.tolist() == [2, 5]
    assert outstanding_neurons(scores, select="top", top=0.01).neurons.tolist() == [2]
    flat = outstanding_neurons(np.ones(9))
    assert len(flat.neurons) == 1 and "none stands out" in flat.rule


def test_feasibility_counts_neurons_by_their_definitions():
    network = helpers.mlp(7, 12)
    with torch.no_grad():  # neuron 0 answers to input 0, neuron 1 to input 1, the others to nothing in common
        network[0].weight.mul_(0.05)
        network[0].weight[:2] = torch.eye(6, dtype=torch.float64)[:2] * 3
    clean = torch.zeros(20, 6, dtype=torch.float64)
    infected = clean.clone()
    clean[:, 1], infected[:, 0] = 4.0, 4.0
    scores = np.arange(12.0)[::-1]
    tail = make_tail(network, clean)
    found = feasibility(tail, infected, clean, scores, threshold=2.0)
    assert found.guilty.tolist() == [0] and found.benign.tolist() == [1]
    named = feasibility(tail, infected, clean, np.where(np.arange(12) == 0, 50.0, scores), threshold=2.0)
    assert (named.guilty_share, named.benign_share, named.chance) == (1.0, 0.0, 1 / 12)
    assert np.isnan(feasibility(tail, clean, clean, scores).guilty_share)
    with pytest.raises(InvalidInput, match="infected"):
        feasibility(tail, infected[:0], clean, scores)


# %% bad input

BAD = {
    "no backdoor named": ({"target": None}, InvalidInput, "target=.*victim="),
    "same class": ({"target": 7}, InvalidInput, "both 7"),
    "no such class": ({"target": 10}, InvalidInput, "target=10"),
    "mode": ({"mode": "all"}, InvalidInput, "mode='all'"),
    "score": ({"score": "gradient"}, InvalidInput, "score"),
    "select": ({"select": "best"}, InvalidInput, "select"),
    "top": ({"select": "top", "top": 0}, InvalidInput, "top=0"),
    "no clean sample": ({"n_reconstructed": 64}, InvalidInput, "n_reconstructed=64"),
    "epochs": ({"epochs": 0}, InvalidInput, "epochs=0"),
    "lr": ({"lr": -1}, InvalidInput, "lr=-1"),
    "report": ({"report": None}, NotSupported, "SodaReport"),
    "stop": ({"stop": 2}, InvalidInput, "stop=2"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(case, report, name):
    changed, kind, words = BAD[name]
    clean = report if report.verdict != "backdoored" else None
    arguments = {"report": report, **PAIR, **changed}
    if name == "no backdoor named" and clean is None:
        arguments["report"] = lc.detect_soda(case[0], case[1], threshold=99.0)
    with pytest.raises(kind, match=words):
        lc.repair_soda(case[0], clean_data=case[1], **arguments)


def test_a_report_of_another_network_or_layer_is_refused(case, report):
    other = copy.deepcopy(case[0])
    with torch.no_grad():
        other.head.bias.add_(1.0)
    with pytest.raises(InvalidInput, match="not of this one"):
        lc.repair_soda(other, report, case[1], **PAIR)
    inside = lc.detect_soda(case[0], case[1], layer="blocks")
    with pytest.raises(NotSupported, match='layer="last"'):
        lc.repair_soda(case[0], inside, case[1], **PAIR)
    assert lc.repair_soda(case[0], inside, case[1], mode="code", **PAIR, epochs=1, n_images=5).mode == "code"


def test_a_victim_without_samples_is_refused(case, report):
    X, y = case[1]
    with pytest.raises(InvalidInput, match="no sample of the victim"):
        lc.repair_soda(case[0], report, (X[y != 7], y[y != 7]), **PAIR)


def test_divergence_is_a_failure_with_a_status(case, report):
    with pytest.raises(SolveFailed, match="diverged") as caught:
        lc.repair_soda(case[0], report, case[1], mode="code", lr=1e12, **PAIR, n_images=5)
    assert caught.value.status is Status.DIVERGED


def test_a_tied_head_is_refused():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 6)
            self.head.weight = self.first.weight

        def forward(self, x):
            return self.head(torch.relu(self.first(x)))

    network = Tied().double()
    data = helpers.points(120, 6)
    report = lc.detect_soda(network, data)
    with pytest.raises(NotSupported, match="shares its weights"):
        lc.repair_soda(network, report, data, target=0, victim=1)
