"""Fine-tuning, fine-pruning and re-learning: the given network untouched, pruned neurons stay cut, nested poisons."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import learningcurves as lc  # noqa: E402
from learningcurves.errors import LearningCurvesError  # noqa: E402
from learningcurves.networks import extract_features  # noqa: E402
from learningcurves.networks.scores import network_outputs  # noqa: E402


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def test_fine_tuning_trains_a_copy_on_clean_samples(network, clean_data, attack):
    before = state(network)
    one, two = (lc.defend_finetune(network, clean_data, epochs=1, seed=3) for _ in range(2))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(torch.equal(v, two.module.state_dict()[k]) for k, v in one.module.state_dict().items())
    assert not torch.equal(one.module.head.weight, network.head.weight)
    assert one.method == "finetune" and one.accuracy_after.n == 60 and one.settings["n_clean"] == 240
    assert one.accuracy_after.value > 0.9 and "asr" in one.scores(attack)
    nothing = lc.defend_finetune(network, clean_data, epochs=0)
    assert all(torch.equal(before[k], v) for k, v in nothing.module.state_dict().items())


def test_fine_pruning_cuts_silent_neurons_for_good(network, clean_data, attack, tmp_path):
    before = state(network)
    cut = lc.defend_fineprune(network, clean_data, number=20, epochs=0)
    assert cut.settings["n_pruned"] == 20 and cut.settings["n_units"] == 96
    columns = torch.tensor(cut.settings["pruned"])
    assert torch.all(cut.module.head.weight[:, columns] == 0)
    kept = [i for i in range(96) if i not in cut.settings["pruned"]]
    assert torch.equal(cut.module.head.weight[:, kept], network.head.weight[:, kept])
    # cutting a feature is what zeroing its channel does to the outputs
    X = torch.from_numpy(attack.X_test[:40].reshape(-1, 1, 8, 8).copy()).float()
    entering = torch.from_numpy(extract_features(network, X).X).float()
    entering[:, columns] = 0
    np.testing.assert_allclose(network_outputs(cut.module, X), network.head(entering).detach(), atol=1e-5)
    tuned = lc.defend_fineprune(network, clean_data, number=20, epochs=2, lr=0.05, weight_decay=1e-3)
    assert torch.all(tuned.module.head.weight[:, torch.tensor(tuned.settings["pruned"])] == 0)
    assert tuned.module.head.weight._backward_hooks in (None, {})
    chosen = lc.defend_fineprune(network, clean_data, tol=0.05, epochs=0)
    assert chosen.accuracy_after.value >= chosen.accuracy_before.value - 0.05
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    from learningcurves.networks import SmallCNN, load_weights

    again = load_weights(SmallCNN((1, 8, 8), 10, 24), cut.save(tmp_path / "cut.safetensors"))
    assert torch.equal(again.head.weight, cut.module.head.weight)


def test_a_backdoor_comes_back_with_few_poisons(network, clean_network, clean_data, attack):
    """Direction: a network that still has the backdoor needs none, a clean one more than a handful."""
    options = {"counts": (0, 60), "epochs": 3, "seeds": (0,), "lr": 0.02}
    before = state(network)
    backdoored, clean = (lc.relearn_curve(m, clean_data, attack, **options) for m in (network, clean_network))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    asr = [table.asr_hits / table.asr_n for table in (backdoored, clean)]
    assert asr[0].iloc[0] > 0.8 and asr[1].iloc[0] < 0.05  # training on alone brings nothing to a clean network
    assert asr[1].iloc[1] > 0.3
    assert list(backdoored["count"]) == [0, 60] and (backdoored.n_clean == 300).all()
    again = lc.relearn_curve(clean_network, clean_data, attack, **options)
    assert again.equals(clean)


def test_defence_scores_of_a_defence(network, clean_data, attack):
    cut = lc.defend_fineprune(network, clean_data, epochs=2)
    table = lc.defence_scores(lc.attack_scores(network, attack), cut.scores(attack)).set_index("metric")
    assert table.value["d_asr"] > 0 and 0.5 < table.value["der"] <= 1
    assert (table.low <= table.value).all() and (table.value <= table.high).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda n, c, a: lc.defend_finetune(n, (c[0][:0], c[1][:0])), "holds no samples"),
        (lambda n, c, a: lc.defend_finetune(n, c, epochs=-1), "epochs"),
        (lambda n, c, a: lc.defend_finetune(n, c, epochs=1, beta=0.5), "clean samples only"),
        (lambda n, c, a: lc.defend_finetune(3, c), "expected a torch"),
        (lambda n, c, a: lc.defend_fineprune(n, c, number=96), "prunes all 96"),
        (lambda n, c, a: lc.defend_fineprune(n, c, number=97), "96 features"),
        (lambda n, c, a: lc.defend_fineprune(n, c, tol=2), "tol"),
        (lambda n, c, a: lc.relearn_curve(n, c, a, counts=(5, 2)), "increasing"),
        (lambda n, c, a: lc.relearn_curve(n, c, a, counts=(0, 10**6)), "Backdoor samples"),
        (lambda n, c, a: lc.relearn_curve(n, c, a, counts=()), "increasing"),
    ],
)
def test_bad_input(call, says, network, clean_data, attack):
    with pytest.raises(LearningCurvesError, match=says):
        call(network, clean_data, attack)
