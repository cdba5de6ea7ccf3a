r"""Scores of neurons for a pair (victim, target), and the neurons that stand out.

causal         CA of the report: how far the target's activation moves when the neuron is set to a h + b
leave_one_out  E_v[y_t] - E_v[y_t | do(h_i = 0)]
influence      E_v[y_t | i kept] - E_v[y_t | i at zero] over random sets of kept neurons (sub-sampled influence)

For an affine head, y_t = W_t h + const, leave-one-out is W_ti E_v[h_i], and sub-sampled influence estimates the same.
"""

from dataclasses import dataclass

import numpy as np
import torch

from learningcurves.checks import check_choice, check_integer, check_number
from learningcurves.defences.clean_samples import CleanSamples
from learningcurves.defences.soda_attribution import class_activation
from learningcurves.defences.soda_index import mad_index
from learningcurves.defences.soda_report import SodaReport
from learningcurves.defences.tail import Tail
from learningcurves.errors import InvalidInput
from learningcurves.networks.runtime import network_device
from learningcurves.streams import generator

SCORES = ("causal", "leave_one_out", "influence")


@dataclass(frozen=True, eq=False)
class Outstanding:
    """Neurons that stand out in a score.

    Attributes
    ----------
    neurons : int ndarray
        In ascending order.
    rule : str
        "mad" or "top", and what was done where MAD found none.
    """

    neurons: np.ndarray
    rule: str


def neuron_scores(
    tail: Tail,
    samples: CleanSamples,
    report: SodaReport,
    victim: int,
    target: int,
    *,
    score: str = "causal",
    n_subsets: int = 256,
    kept: float = 0.7,
    seed: int = 0,
) -> np.ndarray:
    """Return the score of each neuron for a victim and a target, shape (n_neurons,).

    Parameters
    ----------
    tail, samples
    report : SodaReport
        Holds the causal attribution; for the other scores only its class activation is read.
    victim, target : int
        Classes by their numbers.
    score : {"causal", "leave_one_out", "influence"}
    n_subsets : int, default=256
        Random sets of neurons of the sub-sampled influence.
    kept : float, default=0.7
        Probability that a neuron is kept in a set.
    seed : int, default=0
        Root of the sets.
    """
    check_choice(score, "score", SCORES)
    if score == "causal":
        sources = report.sources.tolist()
        if victim not in sources and report.attribution.strides[0] != 0:
            raise InvalidInput(
                f"class {report.class_names[victim]} was no source in the report (too few clean samples), so it has no "
                "attribution. Pass more samples of it to detect_soda."
            )
        block = sources.index(victim) if victim in sources else 0
        return np.array(report.attribution[block, :, target])
    activation = report.settings.get("activation", "logit")
    X = samples.of_class(victim)
    if len(X) == 0:
        raise InvalidInput(f"`clean_data` holds no sample of the victim class {samples.class_names[victim]}.")
    X = X.to(network_device(tail.network))
    if score == "leave_one_out":
        return _leave_one_out(tail, X, target, activation)
    check_integer(n_subsets, "n_subsets", low=2)
    check_number(kept, "kept", low=0, high=1, open_low=True)
    masks = generator(seed, use="soda_influence", score=score).random((n_subsets, tail.n_neurons)) < kept
    return _sub_sampled(tail, X, target, activation, masks)


def _leave_one_out(tail, X, target, activation):
    if tail.weight is not None and activation == "logit":
        h = torch.cat([tail.forward(part)[0].double() for part in X.split(256)])
        return (tail.weight[target].double() * h.mean(0)).cpu().numpy()
    plain = np.mean(np.concatenate([_of_target(tail.forward(p)[1], target, activation) for p in X.split(256)]))
    found = np.empty(tail.n_neurons)
    for start in range(0, tail.n_neurons, tail.rows):
        index = torch.arange(start, min(start + tail.rows, tail.n_neurons), device=X.device)
        keep = torch.ones(len(index), tail.n_neurons, dtype=torch.bool, device=X.device)
        keep[torch.arange(len(index)), index] = False
        found[start : start + len(index)] = plain - _with_masks(tail, X, target, activation, keep)
    return found


def _sub_sampled(tail, X, target, activation, masks):
    values = np.empty(len(masks))
    for start in range(0, len(masks), tail.rows):
        part = torch.from_numpy(masks[start : start + tail.rows]).to(X.device)
        values[start : start + len(part)] = _with_masks(tail, X, target, activation, part)
    inside, outside = masks.sum(axis=0), (~masks).sum(axis=0)
    with np.errstate(invalid="ignore"):
        found = values @ masks / inside - values @ ~masks / outside
    return np.where((inside > 0) & (outside > 0), found, 0.0)  # always or never kept: nothing to compare


def _with_masks(tail, X, target, activation, keep):
    """Return the mean activation of the target with the neurons of each mask kept and the others at zero."""
    total = torch.zeros(len(keep), dtype=torch.float64)
    for part in X.split(max(1, tail.rows // len(keep))):
        z = tail.edited(part, lambda h: h[:, None] * keep)
        total += class_activation(z.double(), activation)[..., target].sum(0).cpu()
    return (total / len(X)).numpy()


def _of_target(z, target, activation):
    return class_activation(z.double(), activation)[:, target].cpu().numpy()


def outstanding_neurons(scores, *, select: str = "mad", threshold: float = 2.0, top: float = 0.3) -> Outstanding:
    """Return the neurons whose score is abnormally large.

    Parameters
    ----------
    scores : array of shape (n_neurons,)
    select : {"mad", "top"}
        "mad": median-MAD index above `threshold`, as the paper says; where there is none (or MAD = 0) the single neuron with
        the largest score. "top": the share `top` with the largest scores, as the authors' code does.
    """
    check_choice(select, "select", ("mad", "top"))
    scores = np.asarray(scores, dtype=np.float64)
    if select == "top":
        count = max(1, round(check_number(top, "top", low=0, high=1, open_low=True) * len(scores)))
        return Outstanding(np.sort(np.argsort(-scores, kind="stable")[:count]), "top")
    check_number(threshold, "neuron_threshold", low=0)
    found = np.flatnonzero(np.nan_to_num(mad_index(scores), nan=-np.inf) > threshold)
    if len(found):
        return Outstanding(found, "mad")
    return Outstanding(np.array([int(np.argmax(scores))]), "mad: none stands out, the largest alone")


@dataclass(frozen=True, eq=False)
class Feasibility:
    r"""Do the neurons that a score names carry the backdoor? The feasibility study of Sun et al.

    Attributes
    ----------
    guilty : int ndarray
        Neurons that are outstanding on infected samples and not on clean samples of the victim.
    benign : int ndarray
        Outstanding on the clean ones and not on the infected ones.
    named : int ndarray
        Outstanding in the score.
    n_neurons : int
    """

    guilty: np.ndarray
    benign: np.ndarray
    named: np.ndarray
    n_neurons: int

    @property
    def guilty_share(self) -> float:
        """Share of the guilty neurons that are named; NaN where there are none."""
        return self._share(self.guilty)

    @property
    def benign_share(self) -> float:
        """Share of the benign neurons that are named; NaN where there are none."""
        return self._share(self.benign)

    @property
    def chance(self) -> float:
        """Share of all neurons that are named: both shares, if the score knew nothing."""
        return len(self.named) / self.n_neurons

    def _share(self, group):
        return float(np.isin(group, self.named).mean()) if len(group) else float("nan")


def feasibility(tail: Tail, infected, clean_victim, scores, *, threshold: float = 1.0) -> Feasibility:
    """Compare the neurons that a score names with those that infected samples switch on.

    Parameters
    ----------
    tail : Tail
    infected, clean_victim : tensors
        Samples of the victim class with and without the feature. Needs the attacker's samples: a study, no defence.
    scores : array of shape (n_neurons,)
    threshold : float, default=1
        Index above which a neuron is outstanding, in activation and score alike; the authors' code has 1 here, where about
        16 % of Gaussian scores are outstanding.
    """
    place = network_device(tail.network)
    index = []
    for X in (infected, clean_victim):
        if len(X) == 0:
            raise InvalidInput("`infected` and `clean_victim` need at least one sample each.")
        h = torch.cat([tail.forward(part.to(place))[0].double() for part in X.split(256)])
        index.append(mad_index(h.mean(0).cpu().numpy()))
    index.append(mad_index(scores))
    on, clean, named = (np.nan_to_num(i, nan=-np.inf) > threshold for i in index)
    return Feasibility(np.flatnonzero(on & ~clean), np.flatnonzero(clean & ~on), np.flatnonzero(named), tail.n_neurons)
