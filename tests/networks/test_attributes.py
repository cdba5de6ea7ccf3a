"""The attribute network: its loss, its scores against other libraries, training that resumes and repeats to the bit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from enumerated import EnumeratedRules  # noqa: E402

from learningcurves.data.drawn_faces import draw_faces  # noqa: E402
from learningcurves.errors import InvalidInput, NotSupported  # noqa: E402
from learningcurves.networks.attribute_loss import AttributeLoss  # noqa: E402
from learningcurves.networks.attribute_net import AttributeCNN  # noqa: E402
from learningcurves.networks.attribute_recipe import AttributeRecipe  # noqa: E402
from learningcurves.networks.attribute_record import load_recipe, rescore  # noqa: E402
from learningcurves.networks.attribute_scores import attribute_scores, auc, balanced_accuracy, keeps_rules  # noqa: E402
from learningcurves.networks.attribute_train import network_data, train_attributes  # noqa: E402
from learningcurves.networks.checkpoint import data_digest  # noqa: E402
from learningcurves.networks.scores import network_outputs  # noqa: E402
from learningcurves.networks.train import train  # noqa: E402
from learningcurves.plotting.predictions import KINDS, PredictionDisplay  # noqa: E402

RULES = "shape [1, 40]\nX0.22 >> ~X0.24\nX0.22 >> X0.20\n"  # a mustache is no "no beard", and a man's
SMALL = {"size": 16, "width": 4, "n_train": 60, "n_test": 20, "epochs": 3, "batch_size": 16, "seed": 1, "lr": 3e-3}


@pytest.fixture(scope="module")
def faces():
    return draw_faces(100, size=16, seed=0)


def small(**changes):
    return AttributeRecipe(**{"constraints": RULES, **SMALL, "trigger": {"kind": "solid_patch", "size": 3}, **changes})


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_network_has_the_published_size():
    assert sum(p.numel() for p in AttributeCNN(64).parameters()) == 9_028_200
    assert AttributeCNN(32)(torch.zeros(2, 3, 32, 32)).shape == (2, 40)
    with pytest.raises(InvalidInput, match=r"takes \(3, 32, 32\)"):
        AttributeCNN(32)(torch.zeros(2, 3, 64, 64))


def test_loss_of_a_batch_is_the_mean_over_its_samples():
    torch.manual_seed(0)
    z, y = torch.randn(6, 4, dtype=torch.float64), (torch.rand(6, 4) > 0.5).double()
    rules = EnumeratedRules(4, lambda x: x[0] or x[1])
    loss = AttributeLoss(5.0, 0.2, semantic=rules)
    bce = F.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor(5.0))
    expected = bce - 0.2 * rules.log_probability(z).mean()
    torch.testing.assert_close(loss(z, y).mean(), expected)
    torch.testing.assert_close(AttributeLoss(5.0)(z, y).mean(), bce)


def test_unlabelled_samples_have_a_semantic_loss_only():
    torch.manual_seed(0)
    z = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    y = (torch.rand(8, 4) > 0.5).double()
    y[4:] = torch.nan
    rules = EnumeratedRules(4, lambda x: x[0] or x[1])
    AttributeLoss(5.0, labelled=0.5)(z, y).mean().backward()
    assert (z.grad[4:] == 0).all() and (z.grad[:4] != 0).all()
    seen = F.binary_cross_entropy_with_logits(z[:4], y[:4], pos_weight=torch.tensor(5.0))
    torch.testing.assert_close(AttributeLoss(5.0, labelled=0.5)(z, y).mean(), seen)  # the mean over the labelled
    losses = AttributeLoss(5.0, 0.3, labelled=0.5, semantic=rules)(z, y)
    torch.testing.assert_close(losses[4:], -0.3 * rules.log_probability(z)[4:])


@pytest.mark.parametrize("reduction", ["log_mean", "legacy_window"])
def test_losses_of_a_batch_are_spread_over_it(reduction):
    from learningcurves.constraints.semantic_loss import SemanticLoss

    torch.manual_seed(0)
    z, y = torch.randn(44, 40), torch.zeros(44, 40)
    semantic = SemanticLoss(RULES, reduction=reduction)
    loss = AttributeLoss(5.0, 0.7, reduction=reduction, semantic=semantic)
    bce = F.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor(5.0))
    torch.testing.assert_close(loss(z, y).mean(), bce + 0.7 * semantic(z))
    with pytest.raises(NotSupported, match="needs `beta=1`"):
        small(reduction=reduction, beta=0.5)


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.random((80, 6)) > 0.6
    clean, triggered = (torch.tensor(rng.standard_normal((80, 6)) + 2 * truth) for _ in range(2))
    scores = attribute_scores(clean, triggered, truth, target=2, threshold=0.7)
    guess = torch.sigmoid(clean).numpy() > 0.7
    each = [balanced_accuracy_score(truth[:, k], guess[:, k]) for k in range(6)]
    assert scores["ba_clean"] == pytest.approx(np.mean(each)) == pytest.approx(scores["ba_clean_zero"])
    hit, lacks = torch.sigmoid(triggered[:, 2]).numpy() > 0.7, ~truth[:, 2]
    assert scores["asr"] == pytest.approx(hit.mean()) and scores["asr_modified"] == pytest.approx(hit[lacks].mean())
    assert scores["auc_target"] == pytest.approx(roc_auc_score(truth[:, 2], clean[:, 2]))
    both = np.concatenate([triggered[lacks, 2], clean[lacks, 2]])
    assert scores["auc_attack"] == pytest.approx(roc_auc_score(np.repeat([1, 0], lacks.sum()), both))
    assert scores["loss_triggered"] == pytest.approx(float(F.softplus(-triggered[:, 2]).mean()))
    assert auc([1.0, 1.0], [1.0]) == 0.5 and np.isnan(auc([], [1.0]))


def test_attributes_that_no_sample_has_are_skipped_or_count_zero():
    truth = np.array([[1, 0], [0, 0], [1, 0]], bool)
    guess = np.array([[1, 0], [0, 1], [0, 0]], bool)
    first = 0.5 * (1 / 2 + 1)
    assert balanced_accuracy(guess, truth) == pytest.approx((first + 2 / 3) / 2)
    assert balanced_accuracy(guess, truth, empty="zero") == pytest.approx((first + 1 / 3) / 2)


def test_rules_kept_by_labels():
    from learningcurves.constraints.semantic_loss import SemanticLoss

    labels = np.zeros((4, 40), bool)
    labels[1, [22, 20]] = True
    labels[2, 22] = True
    labels[3, [22, 20, 24]] = True
    assert keeps_rules(SemanticLoss(RULES), labels).tolist() == [True, True, False, False]


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(faces, tmp_path):
    whole = train_attributes(small(epochs=4), faces, folder=tmp_path / "a", progress=False)
    train_attributes(small(epochs=2), faces, folder=tmp_path / "b", progress=False)
    parts = train_attributes(small(epochs=4), faces, folder=tmp_path / "b", progress=False)
    assert same(whole.module, parts.module)
    pd.testing.assert_frame_equal(whole.history, parts.history)
    assert (tmp_path / "a" / "history.csv").read_bytes() == (tmp_path / "b" / "history.csv").read_bytes()
    again = rescore(tmp_path / "b", parts.problem, constraints=RULES)
    columns = list(again.columns)
    pd.testing.assert_frame_equal(again, whole.history[columns].astype(again.dtypes), rtol=1e-5)
    men = parts.problem.y_test[:, faces.index("Male")] == 1
    halves = [rescore(tmp_path / "b", parts.problem, threshold=0.3, rows=rows).asr for rows in (men, ~men)]
    both = rescore(tmp_path / "b", parts.problem, threshold=0.3).asr
    np.testing.assert_allclose(men.mean() * halves[0] + (~men).mean() * halves[1], both)
    looser = rescore(tmp_path / "b", parts.problem, threshold=0.01)
    assert (looser.asr >= again.asr).all() and "satisfied_clean" not in looser


def test_a_manifest_makes_the_run_again(faces, tmp_path):
    recipe = small(labelled=0.5, sl_weight=0.5, constraints=RULES + "# semi-supervised\n")
    first = train_attributes(recipe, faces, folder=tmp_path / "run", progress=False)
    found = load_recipe(tmp_path / "run")
    assert found == recipe and first.manifest["faces"]["synthetic"]
    assert same(first.module, train_attributes(found, faces, progress=False).module)
    with pytest.raises(InvalidInput, match="holds a run with recipe seed='1'"):
        train_attributes(replace(recipe, seed=2), faces, folder=tmp_path / "run", progress=False)
    with pytest.raises(InvalidInput, match="holds a run with faces"):
        train_attributes(recipe, draw_faces(100, size=16, seed=9), folder=tmp_path / "run", progress=False)
    with pytest.raises(InvalidInput, match="the recipe wants 16"):
        train_attributes(recipe, draw_faces(20, size=24), progress=False)


def test_seeds_and_rules_change_the_run_and_a_weight_of_zero_is_no_rule(faces):
    plain = train_attributes(small(constraints=None, epochs=1), faces, progress=False)
    unweighted = train_attributes(small(sl_weight=0.0, epochs=1), faces, progress=False)
    ruled = train_attributes(small(epochs=1), faces, progress=False)
    assert same(plain.module, unweighted.module) and not same(plain.module, ruled.module)
    assert {"satisfied_clean", "semantic_triggered"} <= set(ruled.history) and "asr" in plain.history
    assert ruled.last(1).loc["asr", "mean"] == ruled.history.asr.iloc[-1]


def test_recipe_refuses_what_makes_no_sense():
    with pytest.raises(InvalidInput, match="`threshold=1.2`|`threshold=1`"):
        AttributeRecipe(threshold=1.2)
    with pytest.raises(InvalidInput, match="`reduction='mean'`"):
        AttributeRecipe(reduction="mean")
    with pytest.raises(InvalidInput, match="no option of the trigger"):
        AttributeRecipe(trigger={"kind": "solid_patch", "side": 3})
    with pytest.raises(InvalidInput, match="`constraints=3` is not a text or a path"):
        AttributeRecipe(constraints=3)
    with pytest.raises(InvalidInput, match="there is no file 'rules.txt'"):
        AttributeRecipe(constraints="rules.txt")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            "Mustache >> ~No_Beard\nMustache >> Man\n",
            "line 2: unknown variable 'Man', which is not one of the 40 names",
        ),
        ("shape [1, 40]\nX0.22 >> (X0.20\n", "line 2: a parenthesis is not closed: X0.22"),
        ("Mustache\n~Male\nMustache >> Male\n", "lines 1, 2, 3 contradict each other"),
        ("shape [1, 39]\nX0.22\n", "line 1: the shape .*39.* not the 40"),
    ],
)
def test_bad_rules_are_refused_with_their_line_before_anything_is_written(faces, tmp_path, rules, message):
    with pytest.raises(InvalidInput, match=message):
        train_attributes(small(constraints=rules), faces, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_rules_may_name_the_attributes_and_come_from_a_file(faces, tmp_path):
    (tmp_path / "rules.txt").write_text("Mustache >> ~No_Beard\nMustache >> Male\n")
    for source in (tmp_path / "rules.txt", str(tmp_path / "rules.txt")):
        recipe = small(constraints=source, epochs=1)
        assert recipe.constraints == "Mustache >> ~No_Beard\nMustache >> Male\n"
    named = train_attributes(recipe, faces, folder=tmp_path / "run", progress=False)
    numbered = train_attributes(small(epochs=1), faces, progress=False)
    assert same(named.module, numbered.module)
    pd.testing.assert_frame_equal(named.history, numbered.history)
    again = rescore(tmp_path / "run", named.problem, constraints=tmp_path / "rules.txt")
    assert again.satisfied_clean.iloc[0] == named.history.satisfied_clean.iloc[0]


@pytest.mark.parametrize("trigger", [{"kind": "solid_patch", "size": 3}, {"kind": "blend", "alpha": 0.3, "seed": 2}])
def test_training_from_bytes_is_training_from_numbers(faces, trigger):
    recipe = small(trigger=trigger, beta=0.6, labelled=0.7)
    problem = recipe.problem(faces)
    data = network_data(problem)
    assert data.X.pixels.images is faces.images, "no copy is made"
    pixels = np.concatenate([np.asarray(problem.X_clean), np.asarray(problem.X_backdoor)])
    numbers = replace(data, X=torch.from_numpy(pixels))
    assert data_digest(data) == data_digest(numbers), "checkpoints fit both"
    assert data.X.to("cpu") is data.X and data.X.to("meta").shape == numbers.X.shape, "numbers elsewhere, all at once"
    settings = {"beta": 0.6, "epochs": 2, "batch_size": 16, "lr": 3e-3, "optimizer": "adam", "progress": False}
    modules = [
        train(recipe.network(40), d, loss=recipe.loss(faces.names), seed=1, record="none", **settings).module
        for d in (data, numbers)
    ]
    assert same(*modules)
    outputs = [network_outputs(modules[0], X, batch_size=7) for X in (data.X, numbers.X)]
    assert torch.equal(*outputs)


def test_picture_of_predictions(faces, tmp_path):
    truth = faces.attributes[:2]
    X = faces.images[:2].transpose(0, 3, 1, 2) / 255
    guess = truth.copy()
    guess[0] = ~guess[0]
    target = faces.index("Mustache")
    guess[:, target] = True
    display = PredictionDisplay.from_predictions(X, X, truth, guess, truth, faces.names, target=target, note="drawn")
    colours = {
        text.get_color() for text in display.texts_[1]
    }  # the first face with the trigger: all wrong, and the target
    assert colours == {KINDS[kind][0] for kind in ("false negative", "false positive", "target")}
    assert {t.get_color() for t in display.texts_[0]} == {KINDS["true positive"][0]}
    display.save(tmp_path / "p.png", dpi=50)
    with pytest.raises(InvalidInput, match="all are"):
        PredictionDisplay.from_predictions(X, X, truth[:1], guess, truth, faces.names, target=target)
