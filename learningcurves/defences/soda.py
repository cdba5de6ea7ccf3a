"""SODA: whether there is a semantic backdoor in a trained network, and from which class to which."""

import time

import numpy as np
from torch import nn

from learningcurves.checks import check_choice, check_integer, check_number
from learningcurves.defences.base import check_network
from learningcurves.defences.class_samples import ClassSamples, class_samples
from learningcurves.defences.soda_attribution import causal_attribution, class_means
from learningcurves.defences.soda_index import (
    MIN_CLASSES,
    class_correlation,
    false_positive_rate,
    find_victim,
    mad_index,
    null_indices,
    null_threshold,
)
from learningcurves.defences.soda_report import BACKDOORED, CANNOT_TELL, CLEAN, SodaReport
from learningcurves.defences.tail import Tail, make_tail
from learningcurves.errors import InvalidInput
from learningcurves.networks.runtime import torch_threads
from learningcurves.networks.weights import weights_digest


def detect_soda(
    network: nn.Module,
    clean_data,
    *,
    layer: str = "last",
    a: float = 1.0,
    b: float = 1.0,
    threshold: float | None = None,
    fpr: float | None = None,
    offset: str = "constant",
    effect: str = "mean",
    activation: str = "logit",
    victim_threshold: float = 2.0,
    min_samples: int = 5,
    classes=None,
    head: str | None = None,
    batch_size: int = 256,
    threads: int | None = 1,
) -> SodaReport:
    r"""Look for a semantic backdoor by the causal attribution of hidden neurons [1]_.

    For each source class j, neuron i and output class c the attribution is how far the class activation moves when the
    neuron is set to a h + b,

    .. math:: \mathrm{CA}^j_{i,c} = |E_j[y_c] - E_j[y_c \mid do(h_i = a h_i + b_i)]|.

    Each class's attribution is correlated over the neurons with the mean of the others'; the target of a backdoor
    draws on neurons of its own and correlates least. The index of a class is (value - median) / (1.4826 MAD) of the
    mean correlation; one at -threshold or below is flagged. The victim is the class whose clean samples activate the
    target most (`find_victim`).

    Parameters
    ----------
    network : torch.nn.Module
        Network returning (n, n_classes) logits. It is not changed.
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
        Clean samples; a few dozen a class are enough. Of a `Dataset` the training part, of a problem the clean part.
    layer : str, default="last"
        "last": the input of the linear head. Otherwise the output of the module of that name, each entry a neuron.
    a, b : float, default=1
        The intervention h -> a h + b.
    threshold : float, optional
        Index beyond which a class is flagged; 2, the published value, where neither this nor `fpr` is given. At 2 one
        clean 10-class network in three is flagged.
    fpr : float, optional
        Choose the threshold instead so that of networks with so many independent Gaussian class values this share is
        flagged, e.g. 0.05.
    offset : {"constant", "spread"}
        "spread": b times each neuron's standard deviation over the clean samples (classes weighted equally). The report
        then does not change when neurons are rescaled and the weights after them compensate for it.
    effect : {"mean", "absolute"}
        Absolute value of the mean change (the definition), or mean of the absolute change (the authors' code).
    activation : {"logit", "softmax"}
        What a class's activation is.
    victim_threshold : float, default=2
        Index above which a class counts as activating the target abnormally.
    min_samples : int, default=5
        Classes with fewer clean samples are neither sources nor victims.
    classes : array, optional
        Labels of the outputs in sorted order, where they are not 0 .. n_classes - 1.
    head : str, optional
        Name of the head, where its output is not the network's.
    batch_size : int, default=256
        Samples in one pass.
    threads : int or None, default=1
        Torch threads while it computes.

    Returns
    -------
    SodaReport
        With the verdict "cannot tell", and the reason, where there are fewer than five classes, fewer than five with
        `min_samples` samples, or no index (MAD = 0).

    Notes
    -----
    Where everything after the layer is affine in it (followed operation by operation, and checked on a few neurons) the
    attribution is read off the weights: |W_ci| |(a-1) E_j[h_i] + b_i|. Elsewhere every neuron is changed in turn and what
    comes after the layer is run, in bounded memory; the report's `method` says which.

    References
    ----------
    .. [1] Sun, Sun, Koh, Shi, Neural network semantic backdoor detection and mitigation: a causality-based approach,
       USENIX Security 2024.
    """
    begun = time.perf_counter()
    check_network(network)
    settings = _check(
        a=a, b=b, threshold=threshold, fpr=fpr, offset=offset, effect=effect, activation=activation,
        victim_threshold=victim_threshold, min_samples=min_samples, batch_size=batch_size,
    )  # fmt: skip
    with torch_threads(threads):
        samples = class_samples(network, clean_data, classes=classes)
        tail = make_tail(network, samples.X, layer, head=head)
        means = class_means(tail, samples, activation=activation, batch_size=batch_size)
        enough = samples.counts >= min_samples
        sources = np.flatnonzero(enough if enough.any() else samples.counts > 0)
        found = causal_attribution(
            tail, samples, sources, a=a, b=b, offset=offset, effect=effect, activation=activation, means=means,
            batch_size=batch_size,
        )  # fmt: skip
    threshold, rate = _threshold(samples.n_outputs, threshold, fpr)
    by_source = class_correlation(found.values)
    correlation = by_source.mean(axis=0)
    index = mad_index(correlation)
    target, victim = _pair(index, enough, means, victim_threshold)
    reasons = _reasons(samples, enough, min_samples, tail, correlation, index, found.values)
    flagged = np.nan_to_num(index, nan=np.inf) < -threshold
    return SodaReport(
        verdict=_verdict(reasons, flagged),
        target=target,
        victim=None if victim is None else victim.label,
        reasons=reasons,
        index=index,
        flagged=flagged,
        threshold=threshold,
        fpr=rate,
        p_value=_p_value(samples.n_outputs, index, target),
        correlation=correlation,
        correlation_by_source=by_source,
        attribution=found.values,
        sources=sources,
        method=found.method,
        method_reason=found.reason,
        method_gap=found.gap,
        neuron_means=means.neurons,
        activation=means.activation,
        offset=found.offset,
        victim_evidence=victim,
        counts=samples.counts,
        classes=samples.classes,
        class_names=samples.class_names,
        layer=f"input of {tail.name}" if tail.before else tail.name,
        network=f"{type(network).__name__} {weights_digest(network)[:12]}",
        settings={**settings, "layer": layer, "head": head},
        seconds=time.perf_counter() - begun,
    )


def _pair(index, enough, means, victim_threshold):
    """Return the class of the smallest index and the victim's evidence; None where there is no index."""
    if not np.isfinite(index).any():
        return None, None
    target = int(np.nanargmin(index))
    seen = np.where(enough, means.activation[:, target], np.nan)
    return target, find_victim(seen, target, reverse=means.activation[target], threshold=victim_threshold)


def _verdict(reasons, flagged):
    if any(reason.startswith(CANNOT_TELL) for reason in reasons):
        return CANNOT_TELL
    return BACKDOORED if flagged.any() else CLEAN


def _p_value(n_classes, index, target):
    return float("nan") if target is None else float(np.mean(null_indices(n_classes) >= -index[target]))


def _check(*, a, b, threshold, fpr, offset, effect, activation, victim_threshold, min_samples, batch_size):
    if threshold is not None and fpr is not None:
        raise InvalidInput("`threshold` and `fpr` are both given; `fpr` chooses the threshold. Pass one of them.")
    check_number(a, "a")
    check_number(b, "b")
    if a == 1 and b == 0:
        raise InvalidInput("`a=1, b=0` changes no neuron. Give another `a`, or `b` other than 0.")
    if threshold is not None:
        check_number(threshold, "threshold", low=0, open_low=True, hint="It is compared with minus the index.")
    if fpr is not None:
        check_number(fpr, "fpr", low=0, high=1, open_low=True, hint="It is the share of clean networks flagged.")
    check_number(victim_threshold, "victim_threshold", low=0)
    check_integer(min_samples, "min_samples", low=1)
    check_integer(batch_size, "batch_size", low=1)
    return {
        "a": float(a),
        "b": float(b),
        "threshold": threshold,
        "fpr": fpr,
        "offset": check_choice(offset, "offset", ("constant", "spread")),
        "effect": check_choice(effect, "effect", ("mean", "absolute")),
        "activation": check_choice(activation, "activation", ("logit", "softmax")),
        "victim_threshold": float(victim_threshold),
        "min_samples": min_samples,
    }


def _threshold(n_classes, threshold, fpr):
    """Return the threshold and the share of class-free networks that it flags; NaN below three classes."""
    if fpr is None:
        threshold = 2.0 if threshold is None else float(threshold)
        return threshold, false_positive_rate(n_classes, threshold) if n_classes >= 3 else float("nan")
    if n_classes < 3:
        return float("nan"), float(fpr)
    return null_threshold(n_classes, fpr), float(fpr)


def _reasons(samples: ClassSamples, enough, min_samples, tail: Tail, correlation, index, attribution):
    """Say what keeps the report from a verdict, and which classes were left out."""
    reasons, K = [], samples.n_outputs
    if K < MIN_CLASSES:
        reasons.append(
            f"{CANNOT_TELL}: {K} classes are too few for a median and a MAD; at least {MIN_CLASSES} are needed"
        )
    if tail.n_neurons < 3:
        reasons.append(f"{CANNOT_TELL}: {tail.n_neurons} neurons are too few for correlations over neurons")
    if enough.sum() < MIN_CLASSES <= K:
        text = f"{CANNOT_TELL}: {int(enough.sum())} classes have {min_samples} clean samples, {MIN_CLASSES} are needed"
        if attribution.strides[0] == 0:
            text += "; the index itself comes from the weights alone and stands, the victim does not"
        reasons.append(text)
    elif not enough.all():
        left = ", ".join(f"{samples.class_names[c]} ({samples.counts[c]})" for c in np.flatnonzero(~enough))
        reasons.append(f"left out as source and victim, with fewer than {min_samples} clean samples: {left}")
    blind = [samples.class_names[c] for c in np.flatnonzero(~np.isfinite(correlation))]
    if blind:
        reasons.append(f"{CANNOT_TELL}: the attribution of {', '.join(blind)} does not vary over the neurons")
    elif not np.isfinite(index).any() and K >= 3:
        reasons.append(f"{CANNOT_TELL}: more than half of the classes have the same correlation (MAD = 0)")
    return tuple(reasons)
