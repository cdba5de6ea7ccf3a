"""One way to name the parts of a problem: the same argument means the same to every function of networks."""

import numpy as np
import pytest

import learningcurves as lc
from learningcurves.errors import InvalidInput, NotSupported

torch = pytest.importorskip("torch")

from learningcurves.networks import as_network_data, evaluate, train  # noqa: E402
from learningcurves.networks.parts import PARTS  # noqa: E402

DATA = lc.load_digits_classes((0, 1, 2), n_train=90)
PROBLEM = lc.poison(DATA, lc.SolidPatch(size=2), fraction=0.2, labels=0)
PAIRS = {p: (getattr(PROBLEM, f"X_{p}").reshape(-1, 1, 8, 8), getattr(PROBLEM, f"y_{p}")) for p in PARTS}
TRAINING = {"epochs": 1, "progress": False}

FORMS = {
    "a problem": PROBLEM,
    "names": {**PAIRS, "y_source": PROBLEM.y_source},
    "names in another order": {"y_source": PROBLEM.y_source, **{p: PAIRS[p] for p in reversed(PARTS)}},
    "tensors": as_network_data(PROBLEM, dtype=torch.float64),
    "all four in order": tuple(PAIRS[p] for p in PARTS),  # without true labels
}


def module():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return lc.SmallCNN((1, 8, 8), 3, 2).double().eval()


CALLS = {
    "train": lambda given: train(module(), given, **TRAINING).history[-1],
    "train_curve": lambda given: lc.train_curve(module(), given, beta=[0, 1], seeds=[0], **TRAINING).scores,
    "evaluate": lambda given: evaluate(module(), given),
    "slope of the last layer": lambda given: {"slope": lc.backdoor_slope(module(), given, reg=1.0).value},
    "slope of chosen parameters": lambda given: {
        "slope": lc.backdoor_slope(module(), given, reg=1.0, parameters=["head.weight"], damping=1.0).value
    },
    "curve of the last layer": lambda given: curve_of(lc.learning_curve(module(), given, [0, 1], reg=1.0)),
    "influence": lambda given: {"sum": lc.pairwise_influence(module(), given, reg=1.0).block(slice(None)).sum()},
}
CURVE = ("loss_triggered", "loss_clean", "bk", "accuracy_clean", "asr", "slope")
NEEDED = {  # test sets beyond clean and backdoor samples; the others score what there is
    "slope of the last layer": {"triggered"},
    "slope of chosen parameters": {"triggered"},
    "curve of the last layer": {"test", "triggered"},  # its clean loss is that of clean test samples
    "influence": {"triggered"},
}


def curve_of(curve):
    return {name: getattr(curve, name) for name in CURVE}


def numbers(found):
    """Return the scores among what a call gave; losses of training are those of the same batches, and stay in."""
    kept = {k: v for k, v in found.items() if k in (*CURVE, "sum") or k.startswith("loss_train")}
    return {name: np.asarray(value, dtype=float) for name, value in kept.items() if value is not None}


@pytest.mark.parametrize("call", CALLS)
def test_every_form_means_the_same(call):
    expected = numbers(CALLS[call](PROBLEM))
    assert expected
    for form, given in FORMS.items():
        found = numbers(CALLS[call](given))
        wanted = {k: v for k, v in expected.items() if k != "asr" or form != "all four in order"}
        assert found.keys() == wanted.keys(), form
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, err_msg=f"{form}: {name}")


@pytest.mark.parametrize("call", CALLS)
def test_three_parts_in_order_are_refused_everywhere(call):
    """The third could be the clean test samples or the triggered ones: taken for the other it would give another number."""
    for last in ("test", "triggered"):
        with pytest.raises(InvalidInput, match='sequence of 3 parts.*Name them, {"clean": '):
            CALLS[call]((PAIRS["clean"], PAIRS["backdoor"], PAIRS[last]))
        given = {p: PAIRS[p] for p in ("clean", "backdoor", last)}
        missing = NEEDED.get(call, set()) - {last}
        if missing:
            with pytest.raises(InvalidInput, match=f"lacks the {missing.pop()} part"):
                CALLS[call](given)
        else:
            scored = numbers(CALLS[call](given)).keys() & {"loss_clean", "loss_triggered"}
            assert not scored or scored == {"loss_clean" if last == "test" else "loss_triggered"}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_problem_is_refused_everywhere(call):
    for given, error, words in (
        ({**PAIRS, "tset": PAIRS["test"]}, InvalidInput, "unknown part 'tset'"),
        ({"clean": PAIRS["clean"]}, InvalidInput, "lacks the backdoor part"),
        (PAIRS["clean"], NotSupported, "the clean part is a ndarray"),
        (DATA, NotSupported, "is a Dataset; expected a BackdoorProblem"),
    ):
        with pytest.raises(error, match=words):
            CALLS[call](given)
