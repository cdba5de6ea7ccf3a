"""The semantic loss: value, gradient p - q and Hessian Diag(p(1-p)) - C against enumeration, autograd and differences."""

import copy
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from constraint_cases import SETS, as_text, every_label, formulas, models, published  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import learningcurves as lc  # noqa: E402
from learningcurves.constraints.semantic_loss import SemanticLoss, legacy_windows  # noqa: E402
from learningcurves.errors import InvalidInput  # noqa: E402

N = 9
# torch's own, on the first forward-mode derivative of a process
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def logits(n=N, batch=4, seed=0, scale=2.0, dtype=torch.float64):
    return scale * torch.randn(batch, n, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def enumerated(text, z):
    """Log probability of the models, one by one, by logsigmoid alone."""
    x = torch.tensor(models(text, z.shape[1]), dtype=z.dtype)
    log_p, log_not_p = torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)
    return torch.logsumexp(log_p @ x.T + log_not_p @ (1 - x).T, dim=1)


def moments(text, z):
    """Conditional mean and covariance of the models, by enumeration."""
    x = torch.tensor(models(text, z.shape[1]), dtype=z.dtype)
    weight = torch.softmax(z @ x.T, dim=1)
    q = weight @ x
    return q, torch.einsum("bm,mi,mj->bij", weight, x, x) - q[:, :, None] * q[:, None, :]


@pytest.mark.parametrize("name", SETS)
def test_value_gradient_and_moments_are_those_of_enumeration(name):
    text, z = SETS[name], logits()
    loss = SemanticLoss(text)
    torch.testing.assert_close(loss.log_probability(z), enumerated(text, z), rtol=0, atol=1e-13)
    q, covariance = moments(text, z)
    torch.testing.assert_close(loss.marginals(z), q, rtol=0, atol=1e-13)
    torch.testing.assert_close(loss.covariance(z), covariance, rtol=0, atol=1e-13)
    gradient = torch.func.grad(lambda z: loss(z))(z)
    torch.testing.assert_close(gradient, (torch.sigmoid(z) - q) / len(z), rtol=0, atol=1e-14)


@given(st.lists(formulas(5), min_size=1, max_size=4), st.integers(0, 1000))
@settings(max_examples=100)
def test_random_constraints(drawn, seed):
    text = "\n".join(map(as_text, drawn))
    if not len(models(text, 5)):
        return
    z = logits(5, seed=seed, scale=3.0)
    loss = SemanticLoss(text)
    torch.testing.assert_close(loss.log_probability(z), enumerated(text, z), rtol=0, atol=1e-12)
    torch.testing.assert_close(loss.marginals(z), moments(text, z)[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(loss.covariance(z), moments(text, z)[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean_log", "log_mean"])
@pytest.mark.parametrize("name", ["implications", "nested", "exactly one"])
def test_every_way_to_differentiate_agrees_with_enumeration(name, reduction):
    text, z, v = SETS[name], logits(7, 3), logits(7, 3, seed=1)
    loss = SemanticLoss(text, reduction)

    def reference(z):
        log_p = enumerated(text, z)
        return -log_p.mean() if reduction == "mean_log" else -torch.logsumexp(log_p, 0) + np.log(len(z))

    close = {"rtol": 0, "atol": 1e-13}
    hessian = torch.func.hessian(reference)(z)
    torch.testing.assert_close(loss(z), reference(z), **close)
    torch.testing.assert_close(torch.func.grad(loss)(z), torch.func.grad(reference)(z), **close)
    torch.testing.assert_close(torch.func.hessian(loss)(z), hessian, **close)  # forward over reverse
    torch.testing.assert_close(torch.func.jacrev(torch.func.grad(loss))(z), hessian, **close)
    torch.testing.assert_close(torch.autograd.functional.hessian(loss, z), hessian, **close)
    found = torch.func.jvp(torch.func.grad(loss), (z,), (v,))[1]
    torch.testing.assert_close(found, torch.einsum("aibj,bj->ai", hessian, v), **close)
    torch.testing.assert_close(torch.func.vjp(loss, z)[1](torch.ones_like(loss(z)))[0], torch.func.grad(reference)(z))
    each = torch.func.vmap(torch.func.grad(lambda row: loss.log_probability(row[None])[0]))(z)
    torch.testing.assert_close(each, loss.marginals(z) - torch.sigmoid(z), **close)
    assert torch.autograd.gradcheck(loss, (z.requires_grad_(),), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, (z,), check_fwd_over_rev=True)


@pytest.mark.parametrize("name", ["implications", "nested", "tree"])
def test_hessian_products(name):
    text, z, v = SETS[name], logits(), logits(seed=1)
    loss = SemanticLoss(text)
    p, (_, covariance) = torch.sigmoid(z), moments(text, z)
    hessian = torch.diag_embed(p * (1 - p)) - covariance
    product = loss.hessian_product(z, v)
    torch.testing.assert_close(product, torch.einsum("bij,bj->bi", hessian, v), rtol=0, atol=1e-13)
    w = logits(seed=2)  # symmetric, and linear in v
    torch.testing.assert_close((w * product).sum(), (v * loss.hessian_product(z, w)).sum())
    every = torch.func.vmap(loss.hessian_product, in_dims=(None, 0))(z, torch.stack([v, w]))
    torch.testing.assert_close(every, torch.stack([product, loss.hessian_product(z, w)]))


@pytest.mark.parametrize("name", ["implications", "nested"])
def test_differences_shrink_at_their_order(name):
    loss, z, v = SemanticLoss(SETS[name]), logits(), logits(seed=1)
    v = v / v.norm()
    gradient, product = torch.func.grad(loss)(z), loss.hessian_product(z, v) / len(z)
    steps = [2e-2, 1e-2, 5e-3]
    first = [(loss(z + h * v) - loss(z - h * v)).item() / (2 * h) - (gradient * v).sum().item() for h in steps]
    grad = torch.func.grad(loss)
    second = [((grad(z + h * v) - grad(z - h * v)) / (2 * h) - product).norm().item() for h in steps]
    for errors in (first, second):
        np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4.0, rtol=0.02)


def test_the_hessian_of_a_sample_is_indefinite_in_general():
    loss = SemanticLoss("(X0 & ~X1) | (~X0 & X1)")
    values = torch.linalg.eigvalsh(torch.func.hessian(loss)(torch.zeros(1, 2, dtype=torch.float64)).view(2, 2))
    assert values[0] < -0.1 and values[1] > 0.1


def test_third_derivatives_are_refused_not_guessed():
    loss, z = SemanticLoss(SETS["implications"]), logits(7).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z), z, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), z, create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivatives"):
        torch.autograd.grad(second.sum(), z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SETS)
def test_finite_at_extreme_logits(name, dtype):
    loss = SemanticLoss(SETS[name])
    signs = torch.tensor(2.0 * every_label(N)[::7] - 1, dtype=dtype)
    z = (50.0 * signs).requires_grad_()
    value = loss(z)
    (gradient,) = torch.autograd.grad(value, z, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), z)
    assert all(torch.isfinite(t).all() for t in (value, gradient, second, loss.covariance(z), loss.marginals(z)))
    expected = enumerated(SETS[name], z.detach().double())
    found = loss.log_probability(z.detach()).double()
    torch.testing.assert_close(found, expected, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_violation_costs_the_logit_with_gradient_one(dtype):
    loss = SemanticLoss("X0 >> ~X1\nX2 | X3")
    z = torch.tensor([[50.0, 100.0, 50.0, -50.0]], dtype=dtype, requires_grad=True)
    value = loss(z)
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(50.0, dtype=dtype))
    torch.testing.assert_close(z.grad, torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=dtype), rtol=0, atol=1e-4)
    certain = torch.tensor([[-50.0, 50.0, -50.0, -50.0]], dtype=dtype, requires_grad=True)
    loss(certain).backward()
    torch.testing.assert_close(certain.grad[0, 2:], torch.tensor([-0.5, -0.5], dtype=dtype))


def test_small_losses_keep_their_digits():
    z = torch.tensor([[-20.0, 20.0]], dtype=torch.float64)  # P(violation) = s(-20) s(20)
    found = SemanticLoss("X0 >> ~X1")(z).item()
    assert found == pytest.approx(2.0611536e-9, rel=1e-6)


def test_half_precision_is_computed_in_single(dtype=torch.bfloat16):
    z = logits(4).to(dtype).requires_grad_()
    value = SemanticLoss("X0 >> ~X1\nX2 | X3")(z)
    value.backward()
    assert value.dtype == torch.float32 and z.grad.dtype == dtype
    torch.testing.assert_close(value, SemanticLoss("X0 >> ~X1\nX2 | X3")(z.detach().float()))


def test_automatic_mixed_precision_leaves_the_loss_alone():
    loss, z, v = SemanticLoss(SETS["tree"]), logits(dtype=torch.float32), logits(seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(z), loss.marginals(z), loss.hessian_product(z, v)
        coarse = loss(torch.nn.Linear(3, N)(torch.ones(2, 3)))
    for value, other in zip(found, (loss(z), loss.marginals(z), loss.hessian_product(z, v)), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=0)
    assert coarse.dtype == torch.float32
    coarse.backward()


def test_dense_matrices_and_small_blocks_give_the_same(monkeypatch):
    z, v = logits(batch=10), logits(batch=10, seed=1)
    loss = SemanticLoss(SETS["tree"])
    expected = loss.log_probability(z), loss.marginals(z), loss.hessian_product(z, v)
    monkeypatch.setattr("learningcurves.constraints.layers.SPARSE_DEVICES", ())
    monkeypatch.setattr("learningcurves.constraints.layers.BLOCK", 1)
    monkeypatch.setattr("learningcurves.constraints.layers.LEAST_BLOCK", 3)
    loss = SemanticLoss(SETS["tree"])
    for found, other in zip(
        (loss.log_probability(z), loss.marginals(z), loss.hessian_product(z, v)), expected, strict=True
    ):
        torch.testing.assert_close(found, other, rtol=0, atol=1e-14)


# --- reductions


def test_the_three_reductions():
    text, z = SETS["implications"], logits(6, batch=12)
    log_p = enumerated(text, z)
    assert SemanticLoss(text)(z).item() == pytest.approx(-log_p.mean().item(), abs=1e-13)
    assert SemanticLoss(text, "log_mean")(z).item() == pytest.approx(-log_p.exp().mean().log().item(), abs=1e-13)
    flat, batch, n = z.flatten(), 12, 6
    rows = torch.stack([torch.stack([flat[batch * r + c] for c in range(n)]) for r in range(n)])
    expected = -enumerated(text, rows).exp().mean().log().item()
    assert SemanticLoss(text, "legacy_window")(z).item() == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("batch", [40, 64, 80])
def test_legacy_windows_are_the_published_arithmetic_to_the_bit(batch):
    n, z = 40, logits(40, batch, dtype=torch.float32)
    flat = z.numpy().ravel()
    rows = np.array([[flat[batch * r + c] for c in range(n)] for r in range(n)])
    same_entry = np.array([[z[(batch * r + c) // n, (batch * r + c) % n] for c in range(n)] for r in range(n)])
    np.testing.assert_array_equal(rows, same_entry)
    np.testing.assert_array_equal(legacy_windows(z).numpy(), rows)
    text = "\n".join(f"X{i} >> X{i // 2}" for i in range(1, 40))
    legacy = SemanticLoss(text, "legacy_window")(z)
    assert torch.equal(legacy, SemanticLoss(text, "log_mean")(torch.from_numpy(rows)))
    if batch == 40:
        assert torch.equal(legacy, SemanticLoss(text, "log_mean")(z))  # nothing is scrambled then
    if batch == 64:
        whole = [r for r in range(n) if 64 * r % n == 0]
        assert [64 * r // n for r in whole] == [0, 8, 16, 24, 32, 40, 48, 56]  # the only samples that are read as meant
        assert (z.numel() - n * n) / z.numel() == 0.375


def test_the_log_of_the_mean_weights_samples_by_how_well_they_obey():
    loss, z = SemanticLoss("X0 >> ~X1", "log_mean"), torch.tensor([[-9.0, 1.0], [20.0, 20.0]], dtype=torch.float64)
    weight = torch.softmax(loss.log_probability(z), 0)  # docs/semantic-loss.md, (S3)
    gradient = torch.func.grad(loss)(z)
    torch.testing.assert_close(gradient, weight[:, None] * (torch.sigmoid(z) - loss.marginals(z)), rtol=0, atol=1e-15)
    assert gradient[1].norm() < 1e-8 < 0.1 < torch.func.grad(SemanticLoss("X0 >> ~X1"))(z)[1].norm()


def test_legacy_windows_carry_gradients_to_the_entries_they_read():
    z = logits(5, 8).requires_grad_()
    SemanticLoss("X0 >> ~X1\nX2 | X4", "legacy_window")(z).backward()
    unread = torch.ones(40, dtype=torch.bool)
    for r in range(5):
        unread[8 * r : 8 * r + 5] = False
    assert (z.grad.flatten()[unread] == 0).all() and (z.grad != 0).any()


# --- properties, and bad input


def test_invariances():
    z = logits(7)
    loss = SemanticLoss(SETS["implications"])
    again = SemanticLoss("\n".join(reversed(SETS["implications"].splitlines())) + "\nX0 >> ~X1")
    torch.testing.assert_close(loss(z), again(z), rtol=0, atol=1e-13)  # order and implied lines do not matter
    z_free = z.clone()
    z_free[:, 5:] += 3.0
    torch.testing.assert_close(loss(z_free), loss(z))  # outputs that no line speaks of do not matter
    assert (torch.func.grad(loss)(z)[:, 5:] == 0).all()
    assert SemanticLoss(SETS["tautology"])(z).item() == 0.0
    parts = [SemanticLoss(line).log_probability(z) for line in ("X0 >> X1", "X2 | X3")]
    torch.testing.assert_close(SemanticLoss("X0 >> X1\nX2 | X3").log_probability(z), sum(parts))


def test_at_logits_zero_the_loss_counts_models():
    for name in ("base", "targetless", "target_focused"):
        loss = SemanticLoss(published(name))
        value = loss(torch.zeros(2, 40, dtype=torch.float64)).item()
        assert value == pytest.approx(40 * np.log(2) - np.log(float(loss.circuit.count_models(40))), abs=1e-12)


def test_the_published_base_set_against_sampling_of_its_moments():
    loss, z = SemanticLoss(published("base")), logits(40, 2, seed=5)
    q, p = loss.marginals(z), torch.sigmoid(z)
    v = logits(40, 2, seed=6)
    h = 1e-4
    difference = (loss.marginals(z + h * v) - loss.marginals(z - h * v)) / (2 * h)  # dq = C dz
    torch.testing.assert_close(torch.einsum("bij,bj->bi", loss.covariance(z), v), difference, rtol=0, atol=1e-7)
    assert ((q >= 0) & (q <= 1)).all()
    torch.testing.assert_close(torch.func.grad(loss)(z) * 2, p - q, rtol=0, atol=1e-13)


def test_a_loss_can_be_copied_and_stored_in_a_network():
    loss = SemanticLoss(SETS["tree"])
    z = logits()
    value = loss(z)
    assert torch.equal(copy.deepcopy(loss)(z), value)
    assert loss.state_dict() == {} and "8 lines, 9 outputs" in repr(loss)
    network = torch.nn.ModuleDict({"head": torch.nn.Linear(3, 9).double(), "loss": loss})
    network["loss"](network["head"](torch.ones(2, 3, dtype=torch.float64))).backward()
    assert network["head"].weight.grad.abs().sum() > 0


WRONG = [
    (lambda: lc.SemanticLoss("X0 >> X1", "mean"), "`reduction='mean'` is not one of"),
    (lambda: lc.SemanticLoss("X0\n~X0"), "lines 1, 2 contradict each other"),
    (lambda: lc.SemanticLoss("X0\nMale >> X1"), "line 2: unknown variable 'Male'"),
    (lambda: lc.SemanticLoss("X0 | X7")(torch.zeros(2, 5)), "line 1: output 7 does not exist, there are 5"),
    (lambda: lc.SemanticLoss("shape [1, 4]\nX0")(torch.zeros(2, 5)), "on 4 outputs, the logits have 5 columns"),
    (lambda: lc.SemanticLoss("X0")(torch.zeros(5)), r"`logits` is a tensor of floats of shape \(batch, n\)"),
    (lambda: lc.SemanticLoss("X0")(torch.zeros(2, 5, dtype=torch.int64)), "got shape .*int64"),
    (lambda: lc.SemanticLoss("X0")(np.zeros((2, 5))), "got ndarray"),
    (lambda: lc.SemanticLoss("X0")(torch.zeros(0, 5)), "holds no sample"),
    (lambda: lc.SemanticLoss("X0").hessian_product(torch.zeros(2, 5), torch.zeros(5)), "`vectors` has shape"),
    (lambda: lc.SemanticLoss("X0", "legacy_window")(torch.zeros(4, 5)), "batches of at least 5 samples.*got 4"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_bad_input_is_named(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()


def test_without_torch_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import learningcurves as lc\n"
        "lc.audit_constraints('X0 >> X1')\n"
        "try: lc.SemanticLoss('X0')\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "pip install learningcurves[torch]" in done.stdout, done.stderr
