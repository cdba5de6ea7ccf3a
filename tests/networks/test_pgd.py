"""PGD: bounds at every step, exact eps, restarts, early stop, an exact answer on a linear network, secml-torch's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.errors import LearningCurvesError  # noqa: E402
from learningcurves.networks.pgd import PGD  # noqa: E402


def make_network(seed=0, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        body = [nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, 4)]
        return nn.Sequential(*body).to(dtype)


class Watch(nn.Module):
    """A network that keeps every input it is shown."""

    def __init__(self, module):
        super().__init__()
        self.module, self.seen = module, []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.module(x)


RNG = np.random.default_rng(0)
X = RNG.random((24, 1, 4, 4))
X[:4] = np.round(X[:4])  # some samples sit on the edge of the range
Y = RNG.integers(0, 4, 24)


@given(
    eps=st.floats(0, 1),
    steps=st.integers(0, 4),
    step_size=st.floats(0, 0.7),
    random_start=st.booleans(),
    early_stop=st.booleans(),
    scale=st.sampled_from([(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)]),
)
def test_every_point_stays_in_the_ball_and_in_the_range(eps, steps, step_size, random_start, early_stop, scale):
    low, high = scale
    images = low + (high - low) * X
    watch = Watch(make_network())
    attack = PGD(eps, steps, step_size, random_start=random_start, early_stop=early_stop, seed=3)
    before = images.copy()
    found = attack.perturb(watch, images, Y, value_range=scale, batch_size=24)
    np.testing.assert_array_equal(images, before)
    source = images.astype(np.float32).astype(np.float64)
    # the limits hold exactly in the sources' own precision: they are rounded inwards, not to nearest
    # the first pass is of two samples: it finds out what the network takes
    for point in [seen.double().numpy().reshape(-1, 1, 4, 4) for seen in watch.seen] + [found.X.astype(np.float64)]:
        assert len(point) in (2, 24) and np.abs(point - source[: len(point)]).max() <= eps * (high - low)
        assert point.min() >= low and point.max() <= high
    assert np.all(found.change <= eps * (high - low) + 1e-6 * max(abs(low), high))


def test_one_step_on_a_linear_network_is_exact():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    weight = module[1].weight.detach().numpy()
    found = PGD(0.1, 1, 0.1, random_start=False).perturb(module, X, Y % 2)
    # with two classes the loss rises along w_other - w_true, so the best corner of the box is known in closed form
    direction = np.where((Y % 2 == 0)[:, None], weight[1] - weight[0], weight[0] - weight[1]).reshape(-1, 1, 4, 4)
    np.testing.assert_allclose(found.X, np.clip(X + 0.1 * np.sign(direction), 0, 1), atol=1e-15)


def test_more_steps_restarts_and_room_make_it_no_weaker():
    module = make_network()
    loss = [PGD(0.2, steps, 0.05, random_start=False).perturb(module, X, Y).loss for steps in (0, 1, 5, 20)]
    for weak, strong in zip(loss[:-1], loss[1:], strict=True):
        assert np.all(strong >= weak)  # the best point visited is kept
    one, three = (PGD(0.2, 3, restarts=r, seed=1).perturb(module, X, Y) for r in (1, 3))
    assert np.all(three.loss >= one.loss) and three.loss.sum() > one.loss.sum()
    assert PGD(0.4, 10).perturb(module, X, Y).fooled.sum() >= PGD(0.01, 10).perturb(module, X, Y).fooled.sum()


def test_early_stop_freezes_each_sample_at_its_first_mistake():
    module = make_network()
    whole = PGD(0.3, 15, 0.02, random_start=False).perturb(module, X, Y)
    early = PGD(0.3, 15, 0.02, random_start=False, early_stop=True).perturb(module, X, Y)
    assert (early.fooled == whole.fooled).all()
    assert np.all(early.change[early.fooled] <= whole.change[early.fooled] + 1e-7)
    assert early.change[early.fooled].mean() < 0.5 * whole.change[early.fooled].mean()
    right = module.eval()(torch.from_numpy(X).float()).argmax(1).numpy() == Y
    assert np.all(early.change[~right] == 0)  # misclassified as they are: nothing is needed
    np.testing.assert_array_equal(early.X[~early.fooled], whole.X[~early.fooled])


def test_the_network_is_left_as_it_was_and_seeds_decide(global_random_state_untouched):
    module = make_network().train()
    state = {k: v.clone() for k, v in module.state_dict().items()}
    attack = PGD(0.1, 3, seed=5)
    one = attack.perturb(module, X, Y, batch_size=24).X
    two = attack.perturb(module, X, Y, batch_size=7).X
    np.testing.assert_allclose(one, two, atol=1e-7)  # a sample's start does not depend on the batches
    assert not np.array_equal(one, PGD(0.1, 3, seed=6).perturb(module, X, Y).X)
    assert module.training and all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_with_the_clean_label_attack():
    data = lc.make_synthetic(4, n=60, image_shape=(1, 4, 4), seed=0)
    module = make_network()
    perturb = PGD(0.2, 5).on(module)
    problem = lc.poison_clean_label(data, lc.SolidPatch(2), 1, 0.5, perturb=perturb)
    facts = problem.provenance["perturbation"]
    assert facts["perturb"] == "pgd" and facts["eps"] == 0.2 and len(facts["network"]) == 12
    assert 0 < facts["largest_change"] <= 0.2 + 1e-7
    again = lc.poison_clean_label(data, lc.SolidPatch(2), 1, 0.5, perturb=perturb)
    np.testing.assert_array_equal(problem.X_backdoor, again.X_backdoor)
    named = lc.Dataset(data.X_train, np.array(list("abcd"))[data.y_train], data.X_test, np.array(list("abcd"))[data.y_test],
                       image_shape=(1, 4, 4))  # fmt: skip
    same = lc.poison_clean_label(
        named, lc.SolidPatch(2), "b", 0.5, perturb=PGD(0.2, 5).on(module, classes=named.classes)
    )
    np.testing.assert_array_equal(problem.X_backdoor, same.X_backdoor)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: PGD(8), "8/255"),
        (lambda: PGD(-0.1), "eps"),
        (lambda: PGD(0.1, -1), "steps"),
        (lambda: PGD(0.1, restarts=0), "restarts"),
        (lambda: PGD(0.1, restarts=2, random_start=False), "repeat the same run"),
        (lambda: PGD().perturb(3, X, Y), "expected a torch"),
        (lambda: PGD().perturb(make_network(), X + 1, Y), "outside `value_range"),
        (lambda: PGD().perturb(make_network(), X, Y[:3]), "class indices"),
        (lambda: PGD().perturb(make_network(), X, Y + 0.5), "class indices"),
        (lambda: PGD().perturb(nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), X, Y * 0), "K >= 2"),
        (lambda: PGD().on(make_network(), classes=[0, 1])(X, Y), "lacks a label"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(LearningCurvesError, match=says):
        call()
