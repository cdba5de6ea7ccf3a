"""Last layer under a semantic loss: exact derivatives, slope and curve against refitting by another solver, the guard."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from enumerated import EnumeratedRules  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.errors import NotSupported, Status  # noqa: E402
from learningcurves.networks.attribute_recipe import AttributeRecipe  # noqa: E402
from learningcurves.networks.last_layer import head_task  # noqa: E402
from learningcurves.networks.semantic_head import (  # noqa: E402
    AttributeHeadLoss,
    SemanticHeadLoss,
    TargetLoss,
    head_losses,
)
from learningcurves.solvers.path import solve  # noqa: E402

K, D, REG = 5, 6, 2.0
RULES = EnumeratedRules(K, lambda x: not (x[0] and x[1]) and (x[2] or not x[1]) and (x[4] <= x[3]))


def losses(sl_weight, pos_weight=5.0):
    weights, positive = (1.0 / K,) * K, (pos_weight,) * K
    one = tuple(np.eye(K)[1])
    target = TargetLoss(weights=one, positive=(1.0,) * K, threshold=0.6)
    if sl_weight == 0:
        return {"loss": AttributeHeadLoss(weights=weights, positive=positive), "test_loss": target}
    semantic = SemanticHeadLoss(weights=weights, positive=positive, sl_weight=sl_weight, semantic=RULES)
    return {"loss": semantic, "test_loss": target}


def parts(seed=0, n=60):
    """Linear features whose labels keep the rules about half the time; backdoor samples have output 1 set."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, D))
    y = (X @ rng.standard_normal((D, K)) + rng.standard_normal((n, K)) > 0.5).astype(float)
    y[5] = np.nan  # a sample whose labels are not seen
    stamped = rng.standard_normal((20, D)) + 1.5 * np.eye(D)[0]
    labels = (stamped @ rng.standard_normal((D, K)) > 0).astype(float)
    labels[:, 1] = 1.0
    return {
        "clean": (X, y), "backdoor": (stamped[:12], labels[:12]), "test": (X[:10], np.nan_to_num(y[:10])),
        "triggered": (stamped[12:], labels[12:]),
    }  # fmt: skip


def identity_network(seed=0):
    """A network whose features are its inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(D, K)).double()


def refit(problem, beta, sl_weight, pos_weight=5.0):
    """Minimise the head's objective by Newton on torch derivatives, and return the target's triggered loss."""
    clean, scale = problem["clean"][0], problem["clean"][0].std(axis=0)
    mean = clean.mean(axis=0)
    sets = {p: (torch.tensor((X - mean) / scale), torch.tensor(y)) for p, (X, y) in problem.items()}

    def one(z, y):
        seen = ~torch.isnan(y[:, 0])
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            z, y.nan_to_num(0.0), reduction="none", pos_weight=torch.tensor(pos_weight)
        )
        value = (each.mean(1) * seen).sum()
        return value - sl_weight * RULES.log_probability(z).sum() if sl_weight else value

    def logits(theta, X):
        W = theta.reshape(D + 1, K)
        return X @ W[:-1] + W[-1]

    def objective(theta):
        W = theta.reshape(D + 1, K)
        value = 0.5 * REG * (W[:-1] ** 2).sum()
        for part, weight in (("clean", 1.0), ("backdoor", beta)):
            X, y = sets[part]
            value = value + weight * one(logits(theta, X), y)
        return value

    theta = torch.zeros((D + 1) * K, dtype=torch.float64)
    for _ in range(60):  # Newton to the floor; the Hessian is dense and small
        g = torch.func.grad(objective)(theta)
        if float(g.norm()) < 1e-11:
            break
        step = torch.linalg.solve(torch.func.jacrev(torch.func.grad(objective))(theta), g)
        length = 1.0
        while float(objective(theta - length * step)) > float(objective(theta)) + 1e-14 and length > 1e-6:
            length /= 2
        theta = theta - length * step
    X, y = sets["triggered"]
    return float(torch.nn.functional.softplus(-logits(theta, X)[:, 1]).mean())


@pytest.mark.parametrize("sl_weight", [0.0, 0.2, 2.0])
def test_derivatives_of_the_loss_are_those_of_torch(sl_weight):
    rng = np.random.default_rng(1)
    f = 2 * rng.standard_normal((7, 2, K))
    y = (rng.random((7, K)) > 0.5).astype(float)
    y[3] = np.nan
    loss = losses(sl_weight)["loss"]

    def value(z, t):
        seen = ~torch.isnan(t)
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            z, t.nan_to_num(0.0), reduction="none", pos_weight=torch.tensor(5.0)
        )
        total = (each * seen).sum() / K
        return total - sl_weight * RULES.log_probability(z[None])[0]

    v = rng.standard_normal(f.shape)
    for i in range(7):
        for b in range(2):
            z, t = torch.tensor(f[i, b]), torch.tensor(y[i])
            g = torch.func.grad(value)(z, t)
            H = torch.func.jacrev(torch.func.grad(value))(z, t)
            np.testing.assert_allclose(loss.value(f, y)[i, b], float(value(z, t)), rtol=1e-12)
            np.testing.assert_allclose(loss.gradient(f, y)[i, b], g, rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(loss.second(f, y)[i, b], torch.diagonal(H), rtol=1e-9, atol=1e-13)
            product = loss.hessian_product(f, y, v)[i, b]
            np.testing.assert_allclose(product, H @ torch.tensor(v[i, b]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sl_weight", [0.0, 0.2, 0.5])
def test_slope_is_the_limit_of_refitting(sl_weight):
    problem = parts()
    slope = lc.backdoor_slope(identity_network(), problem, reg=REG, **losses(sl_weight))
    assert slope.status is Status.OK and slope.smallest_eigenvalue > 0 and slope.value < 0
    start = refit(problem, 0.0, sl_weight)
    np.testing.assert_allclose(slope.loss, start, rtol=1e-10)
    steps = np.array([4e-3, 2e-3, 1e-3])
    error = np.array([(refit(problem, h, sl_weight) - start) / h - slope.value for h in steps])
    np.testing.assert_allclose(error[:-1] / error[1:], 2.0, rtol=0.1)  # first order


def test_curve_and_deviation_of_the_head_are_those_of_refitting():
    problem, beta = parts(), np.array([0.0, 0.3, 1.0])
    curve = lc.learning_curve(identity_network(), problem, beta, reg=REG, **losses(0.2))
    found = [refit(problem, b, 0.2) for b in beta]
    np.testing.assert_allclose(curve.loss_triggered, found, rtol=1e-8)
    deviation = lc.parameter_deviation(curve)
    assert deviation.nu[0] == pytest.approx(0.0, abs=1e-15) and np.all(np.diff(deviation.nu) > 0)


def dense_slope(task, fit, majorised):
    """Slope by dense linear algebra; `majorised` drops the covariance C, which makes every H_n positive."""
    samples, loss, problem = task.samples, task.objective.loss, task.problem
    X, T = (np.hstack([A, np.ones((len(A), 1))]) for A in (samples.X, problem.X_triggered))
    H = loss.output_hessian(fit.scores, samples.y)[:, 0]
    if majorised:
        H = H + loss.sl_weight * loss._rules(fit.scores, RULES.covariance)[:, 0]
    clean = samples.n_clean
    total = np.einsum("np,nq,nkl->pkql", X[:clean], X[:clean], H[:clean]).reshape((D + 1) * K, -1)
    total += np.kron(np.diag([REG] * D + [0.0]), np.eye(K))
    backdoor = X[clean:].T @ loss.gradient(fit.scores[clean:], samples.y[clean:])[:, 0]
    test = T.T @ problem.test_loss.gradient((T @ fit.theta[:, 0])[:, None], problem.y_triggered)[:, 0] / len(T)
    return -float(test.ravel() @ np.linalg.solve(total, backdoor.ravel()))


def test_slope_is_dense_linear_algebra_and_needs_the_covariance():
    task = head_task(identity_network(), parts(), reg=REG, **losses(0.5))
    fit = solve(task.objective, task.samples, np.array([0.0])).fit
    slope = lc.backdoor_slope(identity_network(), parts(), reg=REG, **losses(0.5))
    np.testing.assert_allclose(slope.value, dense_slope(task, fit, False), rtol=1e-8)
    assert abs(dense_slope(task, fit, True) / slope.value - 1) > 0.02  # the convex majoriser is no substitute


def test_a_circuit_gives_what_enumeration_gives():
    circuit = lc.SemanticLoss("shape [1, 5]\n~(X0 & X1)\nX1 >> X2\nX4 >> X3\n")
    exact = losses(0.5)
    rules = replace(exact["loss"], semantic=circuit)
    enumerated = lc.backdoor_slope(identity_network(), parts(), reg=REG, **exact)
    found = lc.backdoor_slope(identity_network(), parts(), reg=REG, loss=rules, test_loss=exact["test_loss"])
    np.testing.assert_allclose(found.value, enumerated.value, rtol=1e-10)
    np.testing.assert_allclose(found.smallest_eigenvalue, enumerated.smallest_eigenvalue, rtol=1e-8)
    rng = np.random.default_rng(2)
    f, v, y = rng.standard_normal((6, 2, K)), rng.standard_normal((6, 2, K)), np.ones((6, K))
    product = np.einsum("nbkl,nbl->nbk", rules.output_hessian(f, y), v)
    np.testing.assert_allclose(rules.hessian_product(f, y, v), product, rtol=1e-10, atol=1e-13)


def test_negative_curvature_is_reported_and_no_number():
    """Exactly one of two outputs, started at the symmetric saddle of -log WMC: stationary, but H is indefinite."""
    rules = EnumeratedRules(2, lambda x: x[0] != x[1])
    semantic = SemanticHeadLoss(weights=(1e-6, 1e-6), positive=(1.0, 1.0), sl_weight=1.0, semantic=rules)
    X = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    y = np.full((4, 2), 0.5)  # no pull from the labels
    network = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(1, 2)).double()
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.zero_()
    target = TargetLoss(weights=(1.0, 0.0), positive=(1.0, 1.0))
    problem = {p: (X, y) for p in ("clean", "backdoor", "triggered")}
    slope = lc.backdoor_slope(network, problem, reg=1e-3, loss=semantic, test_loss=target)
    assert slope.status is Status.INDEFINITE and np.isnan(slope.value) and slope.smallest_eigenvalue < 0


def test_losses_of_a_whole_batch_have_no_slope():
    recipe = AttributeRecipe(constraints="X0.0 >> X0.1", reduction="log_mean")

    class Problem:
        names, target = ("a", "b"), 1

    with pytest.raises(NotSupported, match="no sum over samples"):
        head_losses(recipe, Problem)
    plain = head_losses(AttributeRecipe(), Problem)
    assert isinstance(plain["loss"], AttributeHeadLoss) and plain["test_loss"].weights == (0.0, 1.0)
