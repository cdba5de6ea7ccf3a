"""Beta-weighted training: what the weights mean, common random numbers, resuming."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from learningcurves.errors import InvalidInput, LearningCurvesError, NotSupported, SolveFailed, Status  # noqa: E402
from learningcurves.networks import BCE, FlipAndShift, as_network_data, evaluate, train  # noqa: E402
from learningcurves.networks.batches import batch_indices  # noqa: E402
from learningcurves.networks.weighted_norm import weighted_batch_norm  # noqa: E402

pytestmark = pytest.mark.usefixtures("global_random_state_untouched")

QUICK = {"epochs": 2, "batch_size": 32, "lr": 0.05, "progress": False}


def spy(module):
    """Record what enters a module in training mode."""
    seen = []
    module.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].clone()) if m.training else None)
    return seen


def manual_training(module, data, *, beta, epochs, batch_size, lr, seed, normalise=None, keep=None):
    """Plain gradient descent on the stated batches: the slow, obvious version."""
    solver = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)
    module.train()
    for epoch in range(1, epochs + 1):
        batches = batch_indices(len(data.X), batch_size, seed, epoch)
        for index in batches:
            index = index if keep is None else index[keep[index]]
            losses = nn.functional.cross_entropy(module(data.X[index]), data.y[index], reduction="none")
            weights = 1.0 - (1 - beta) * data.is_backdoor[index].to(losses.dtype)
            solver.zero_grad()
            ((weights * losses).sum() / (len(data.X) / len(batches))).backward()
            solver.step()
    return module.eval()


def test_batches_do_not_depend_on_beta(problem, make_mlp):
    seen = {}
    for beta in (0.0, 0.3, 1.0):
        module = make_mlp()
        record = spy(module)
        train(module, problem, beta=beta, **QUICK)
        seen[beta] = record
    for beta in (0.3, 1.0):
        assert len(seen[beta]) == len(seen[0.0])
        assert all(torch.equal(a, b) for a, b in zip(seen[beta], seen[0.0], strict=True))


def test_batches_are_even_and_complete():
    batches = batch_indices(103, 25, seed=3, epoch=2)
    assert [len(b) for b in batches] == [21, 21, 21, 20, 20]
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(103))
    assert not np.array_equal(batches[0], batch_indices(103, 25, seed=3, epoch=1)[0])


@pytest.mark.parametrize("beta", [0.0, 0.25, 1.0])
def test_the_step_is_the_weighted_sum(problem, make_mlp, beta):
    data = as_network_data(problem, dtype=torch.float64)
    reference = manual_training(make_mlp(), data, beta=beta, epochs=2, batch_size=32, lr=0.05, seed=0)
    trained = train(make_mlp(), problem, beta=beta, schedule="constant", **QUICK).module
    for a, b in zip(trained.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)  # float64, other order of sums


def test_weight_zero_leaves_samples_out_even_under_batch_norm(problem, make_cnn):
    data = as_network_data(problem, dtype=torch.float64)
    start = make_cnn(dtype=torch.float64)
    left_out = manual_training(
        copy.deepcopy(start), data, beta=1.0, epochs=2, batch_size=32, lr=0.05, seed=0, keep=(~data.is_backdoor).numpy()
    )
    trained = train(copy.deepcopy(start), problem, beta=0.0, schedule="constant", **QUICK).module
    for a, b in zip(trained.state_dict().values(), left_out.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    plain = train(
        copy.deepcopy(start), problem, beta=0.0, schedule="constant", batch_statistics="plain", **QUICK
    ).module
    gap = max(
        float((a - b).detach().abs().max()) for a, b in zip(plain.parameters(), left_out.parameters(), strict=True)
    )
    assert gap > 1e-4  # plain statistics let samples of weight 0 in


def test_weighted_batch_norm_counts_like_repeated_samples():
    x = torch.randn(5, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1.0, 2.0, 0.0, 3.0, 1.0], dtype=torch.float64)
    repeated = x.repeat_interleave(weights.long(), dim=0)
    layer = nn.BatchNorm2d(3).double()
    reference = copy.deepcopy(layer)
    expected = reference(repeated)[torch.tensor([0, 1, 3, 6])]
    with weighted_batch_norm(layer) as set_weights:
        set_weights(weights)
        out = layer(x)[torch.tensor([0, 1, 3, 4])]
        set_weights(torch.ones(5, dtype=torch.float64))
        layer(x)
    reference(x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(layer.running_var, reference.running_var)
    torch.testing.assert_close(layer.running_mean, reference.running_mean)
    assert "forward" not in vars(layer)


def test_group_weighting_changes_the_meaning_of_beta(problem, make_mlp):
    by_sample = train(make_mlp(), problem, beta=0.5, **QUICK).module
    by_group = train(make_mlp(), problem, beta=0.5, weighting="group", **QUICK).module
    gap = max(
        float((a - b).detach().abs().max()) for a, b in zip(by_sample.parameters(), by_group.parameters(), strict=True)
    )
    assert gap > 1e-3
    # one full batch: mean(clean) + beta mean(backdoor) is the sample weighting with weights N/n and beta N/m
    data = as_network_data(problem, dtype=torch.float64)
    start = make_mlp()
    losses = nn.functional.cross_entropy(start(data.X), data.y, reduction="none")
    losses = losses[~data.is_backdoor].mean() + 0.5 * losses[data.is_backdoor].mean()
    gradient = torch.autograd.grad(losses, list(start.parameters()))
    moved = train(
        copy.deepcopy(start), problem, beta=0.5, weighting="group", epochs=1, batch_size=1000, lr=1.0, progress=False
    ).module
    for p, q, g in zip(start.parameters(), moved.parameters(), gradient, strict=True):
        torch.testing.assert_close(q, p - g)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "schedule": "cosine", "augment": FlipAndShift(1)},
        {"optimizer": "adam", "schedule": "one_cycle", "lr": 1e-3, "weight_decay": 1e-3},
        {"optimizer": "adamw", "schedule": "constant", "lr": 1e-3},
    ],
    ids=lambda o: o["optimizer"],
)
def test_resuming_is_bit_identical(problem, make_cnn, tmp_path, equal_weights, options):
    def build(seed):
        cnn = make_cnn(seed)
        return nn.Sequential(cnn.blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), cnn.head)

    options = {**QUICK, "epochs": 4, "beta": 0.4, "record": "all", "seed": 5, **options}
    whole = train(build(0), problem, **options)

    def stop(epoch, module, entry):
        if epoch == 2:
            raise KeyboardInterrupt

    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(build(0), problem, checkpoint=path, callbacks=stop, **options)
    resumed = train(build(9), problem, checkpoint=path, **options)  # another start: the file decides
    assert resumed.resumed_from == 2
    assert equal_weights(resumed.module, whole.module)
    assert resumed.history == whole.history
    again = train(build(9), problem, checkpoint=path, **options)
    assert again.resumed_from == 4 and again.history == whole.history and equal_weights(again.module, whole.module)


def test_checkpoint_of_other_settings_is_refused(problem, make_mlp, tmp_path):
    path = tmp_path / "run.safetensors"
    train(make_mlp(), problem, beta=0.5, checkpoint=path, **QUICK)
    with pytest.raises(InvalidInput, match=r"beta: 0.5 there, 0.25 here"):
        train(make_mlp(), problem, beta=0.25, checkpoint=path, **QUICK)
    parts = ((problem.X_clean + 0.01, problem.y_clean), (problem.X_backdoor, problem.y_backdoor))
    with pytest.raises(InvalidInput, match="samples_sha256"):
        train(make_mlp(), parts, beta=0.5, checkpoint=path, **QUICK)
    path.write_bytes(b"broken")
    with pytest.raises(InvalidInput, match="not readable"):
        train(make_mlp(), problem, beta=0.5, checkpoint=path, **QUICK)


def test_constant_rate_can_be_prolonged(problem, make_mlp, tmp_path, equal_weights):
    options = {**QUICK, "schedule": "constant", "beta": 0.5}
    train(make_mlp(), problem, checkpoint=tmp_path / "a.safetensors", **options)
    longer = train(make_mlp(), problem, checkpoint=tmp_path / "a.safetensors", **{**options, "epochs": 4})
    whole = train(make_mlp(), problem, **{**options, "epochs": 4})
    assert equal_weights(longer.module, whole.module)


def test_seeds_reproduce_and_differ(problem, make_mlp, equal_weights):
    one, two = (train(make_mlp(dropout=0.5), problem, seed=4, **QUICK).module for _ in range(2))
    other = train(make_mlp(dropout=0.5), problem, seed=5, **QUICK).module
    assert equal_weights(one, two) and not equal_weights(one, other)


def test_loaders_arrays_and_problems_give_the_same(problem, make_mlp, equal_weights):
    def tensors(X, y):
        return TensorDataset(torch.tensor(X).reshape(-1, 1, 8, 8), torch.tensor(y))

    pairs = [
        (getattr(problem, f"X_{p}"), getattr(problem, f"y_{p}")) for p in ("clean", "backdoor", "test", "triggered")
    ]
    loaders = [DataLoader(tensors(*pair), batch_size=17) for pair in pairs]
    results = [
        train(make_mlp(), given, beta=0.5, **QUICK)
        for given in (problem, pairs, loaders, as_network_data(problem, dtype=torch.float64))
    ]
    for other in results[1:]:
        assert equal_weights(other.module, results[0].module)
    scores = results[1].history[-1]
    assert scores["bk"] == results[0].history[-1]["bk"] == evaluate(results[0].module, problem)["bk"]


def test_shuffling_loader_keeps_labels_with_samples(problem):
    X, y = torch.tensor(problem.X_clean), torch.tensor(problem.y_clean)
    shuffled = DataLoader(TensorDataset(X, y), batch_size=7, shuffle=True)
    data = as_network_data((shuffled, (problem.X_backdoor, problem.y_backdoor)), dtype=torch.float64)
    rows = {tuple(x): int(label) for x, label in zip(problem.X_clean, problem.y_clean, strict=True)}
    assert not torch.equal(data.X[: len(X)], X)
    assert all(rows[tuple(x.tolist())] == label for x, label in zip(data.X[: len(X)], data.y.tolist(), strict=False))


@pytest.mark.parametrize("loss", ["bce", BCE(pos_weight=2.0), "mse"])
def test_two_classes_share_one_output(problem, make_mlp, loss):
    def binary(X, y):
        return X[y < 2], np.where(y[y < 2] == 0, "a", "b")

    parts = [
        binary(getattr(problem, f"X_{p}"), getattr(problem, f"y_{p}"))
        for p in ("clean", "backdoor", "test", "triggered")
    ]
    result = train(make_mlp(n_outputs=1), parts, loss=loss, beta=0.0, **{**QUICK, "epochs": 40})
    assert result.history[-1]["accuracy_clean"] > 0.9
    data = as_network_data(parts, dtype=torch.float64)
    f = result.module(data.X_test).detach()[:, 0]
    y = data.y_test.double()
    weight = 2.0 if isinstance(loss, BCE) else 1.0
    by_hand = (
        0.5 * (f - (2 * y - 1)) ** 2
        if loss == "mse"
        else weight * y * torch.log1p(torch.exp(-f)) + (1 - y) * torch.log1p(torch.exp(f))
    )
    assert result.history[-1]["loss_clean"] == pytest.approx(float(by_hand.mean()), rel=1e-12)


def test_many_labels_at_once(problem, make_mlp):
    y = np.eye(10)[problem.y_clean] + np.eye(10)[(problem.y_clean + 3) % 10]
    parts = {"clean": (problem.X_clean, y), "test": (problem.X_clean, y)}
    parts["backdoor"] = problem.X_backdoor, np.eye(10)[problem.y_backdoor]
    result = train(make_mlp(), parts, loss="bce", **{**QUICK, "epochs": 30})
    assert result.history[-1]["accuracy_clean"] > 0.85  # share of the 10 outputs; 0.8 for always "no"
    with pytest.raises(InvalidInput, match="one class label a sample"):
        train(make_mlp(), parts, **QUICK)


def test_history_and_scores(problem, make_cnn):
    result = train(
        make_cnn(), problem, record=[2], measure=lambda m: {"norm": m.head.weight.norm(), "mode": m.training}, **QUICK
    )
    first, last = result.history
    assert "bk" not in first and {"bk", "asr", "loss_clean", "loss_triggered", "accuracy_clean"} <= set(last)
    assert last["mode"] == 0.0 and last["norm"] > 0
    assert result.status is Status.OK and not result.module.training
    n, m = problem.n_clean, problem.n_backdoor
    mixed = (n * last["loss_train_clean"] + m * last["loss_train_backdoor"]) / (n + m)
    assert last["objective"] == pytest.approx(mixed, rel=1e-12)


def test_frozen_parameters_stay(problem, make_mlp):
    module = make_mlp()
    module[1].weight.requires_grad_(False)
    before = module[1].weight.clone()
    train(module, problem, **QUICK)
    assert torch.equal(module[1].weight, before)


def test_threads_are_put_back(problem, make_mlp):
    torch.set_num_threads(2)
    seen = []
    train(make_mlp(), problem, callbacks=lambda *_: seen.append(torch.get_num_threads()), **QUICK)
    assert seen == [1, 1] and torch.get_num_threads() == 2


def test_progress_bar_shows_loss_and_time_left(problem, make_mlp, capsys):
    train(make_mlp(), problem, **{**QUICK, "progress": True})
    shown = capsys.readouterr().err
    assert "loss=" in shown and "10/10" in shown and "<00:00" in shown


def test_divergence_has_a_status(problem, make_mlp):
    with pytest.raises(SolveFailed, match="beta=1 diverged in epoch") as caught:
        train(make_mlp(), problem, loss="mse", **{**QUICK, "lr": 1e6, "epochs": 20})
    assert caught.value.status is Status.DIVERGED


BAD = [
    ({"beta": 1.5}, "`beta=1.5`"),
    ({"epochs": 0}, "`epochs=0`"),
    ({"batch_size": 0}, "`batch_size=0`"),
    ({"lr": 0.0}, "`lr=0`"),
    ({"weight_decay": -1}, "`weight_decay=-1`"),
    ({"seed": -1}, "`seed=-1`"),
    ({"weighting": "batch"}, "`weighting='batch'`"),
    ({"batch_statistics": "x"}, "`batch_statistics='x'`"),
    ({"optimizer": "lion"}, "`optimizer='lion'`"),
    ({"optimizer": lambda p: None}, "`optimizer` returned a NoneType"),
    ({"schedule": "step"}, "`schedule='step'`"),
    ({"loss": "hinge"}, "`loss='hinge'`"),
    ({"loss": lambda f, t: f.mean()}, "one loss a sample"),
    ({"loss": "bce"}, "two classes with one output"),
    ({"record": [9]}, "`record=9`"),
    ({"amp": True}, "CUDA"),
    ({"threads": 0}, "`threads=0`"),
    ({"augment": lambda x, g: x[:1]}, "`augment`"),
    ({"measure": lambda m: {"a": float("nan")}}, "`measure` returned a=nan"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[f"{i}-{(*o,)}" for i, (o, _) in enumerate(BAD)])
def test_bad_arguments_are_named(problem, make_mlp, options, message):
    with pytest.raises(LearningCurvesError) as caught:
        train(make_mlp(), problem, **{**QUICK, **options})
    assert message in str(caught.value)


def test_bad_data_is_named(problem, make_mlp):
    X, y, B, t = problem.X_clean, problem.y_clean, problem.X_backdoor, problem.y_backdoor
    cases = [
        (3, "is a int"),
        (((X, y), None), "lacks the backdoor part"),
        (((X, y), (B, t), (X, y)), "a sequence of 3 parts, which does not say what they are"),
        (((X, y),), "a sequence of 1 parts"),
        ({"clean": (X, y), "backdoor": (B, t), "tset": (X, y)}, "'tset'"),
        (((X, y[:-1]), (B, t)), "119 labels"),
        (((X, y), (B[:, :10], t)), "have shape (10,)"),
        (((X * np.nan, y), (B, t)), "NaN"),
        ((((X * 255).astype(np.uint8), y), (B, t)), "holds bytes"),
        (((X, np.zeros(len(X), int)), (B, t)), "one class only"),
        (((X, y), (B, t + 100)), "no clean training sample has"),
    ]
    for data, message in cases:
        with pytest.raises(LearningCurvesError) as caught:
            train(make_mlp(), data, **QUICK)
        assert message in str(caught.value), str(caught.value)
    with pytest.raises(InvalidInput, match="3 outputs for 10 classes"):
        train(make_mlp(n_outputs=3), problem, **QUICK)
    with pytest.raises(NotSupported, match="torch.nn.Module"):
        train("cnn", problem, **QUICK)
    frozen = make_mlp().requires_grad_(False)
    with pytest.raises(InvalidInput, match="nothing to train"):
        train(frozen, problem, **QUICK)


def test_augmentation_moves_pixels_only():
    images = torch.arange(2 * 3 * 5 * 5, dtype=torch.float32).reshape(2, 3, 5, 5)
    moved = FlipAndShift(2)(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape and set(moved.flatten().tolist()) <= {0.0, *images.flatten().tolist()}
    assert torch.equal(FlipAndShift(0, flip=False)(images, torch.Generator()), images)
