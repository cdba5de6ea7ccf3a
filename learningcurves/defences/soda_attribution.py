r"""Causal attribution of neurons: how far the class activations move when one neuron is set to a h + b.

Sun et al. (USENIX Security 2024) define, for neuron i, output class c and clean samples of the source class j,

.. math:: \mathrm{CA}^j_{i,c} = |E_j[y_c] - E_j[y_c \mid do(h_i = a h_i + b_i)]|.

Where everything after the layer is affine, z = W h + const, the intervention moves z_c by W_ci ((a - 1) h_i + b_i) and

.. math:: \mathrm{CA}^j_{i,c} = |W_{ci}|\,|(a-1)\mu_{j,i} + b_i|, \qquad \mu_{j,i} = E_j[h_i],

which for a = 1 depends on neither data nor source class. With ``effect="absolute"`` the absolute value is taken sample
by sample, as the authors' code does.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from learningcurves.defences.class_samples import ClassSamples
from learningcurves.defences.tail import Tail
from learningcurves.memory import check_memory
from learningcurves.networks.runtime import network_device

CHECKED = 4  # neurons whose closed form is compared with a real intervention
CLOSED, SOFTMAX, INTERVENTION = "closed form", "closed form of the softmax", "intervention"


@dataclass(frozen=True, eq=False)
class ClassMeans:
    """Means over the clean samples of each class.

    Attributes
    ----------
    neurons : ndarray of shape (n_classes, n_neurons)
        E_j[h_i]; NaN for a class without samples.
    activation : ndarray of shape (n_classes, n_classes)
        E_j[y_c], source class j by output class c.
    spread : ndarray of shape (n_neurons,)
        Standard deviation of each neuron, every class with samples counting the same however many it has.
    """

    neurons: np.ndarray
    activation: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True, eq=False)
class Attribution:
    """Causal attribution and how it was computed.

    Attributes
    ----------
    values : ndarray of shape (n_sources, n_neurons, n_classes)
        One block a source class; a read-only view of a single block where they are all the same.
    method : str
        "closed form", "closed form of the softmax" or "intervention".
    reason : str
        Why not the closed form; "" where it is.
    gap : float
        Largest difference of the closed form from real interventions on a few neurons, in units of the largest
        attribution among them; NaN for interventions.
    offset : ndarray of shape (n_neurons,)
        b_i.
    """

    values: np.ndarray
    method: str
    reason: str
    gap: float
    offset: np.ndarray


def class_activation(z: torch.Tensor, activation: str) -> torch.Tensor:
    """Return the class activations of logits (..., K): themselves, or their softmax."""
    return torch.softmax(z, dim=-1) if activation == "softmax" else z


def class_means(tail: Tail, samples: ClassSamples, *, activation: str = "logit", batch_size: int = 256) -> ClassMeans:
    """Return the means of neurons and class activations over each class, one chunk after the other."""
    K, n = samples.n_outputs, tail.n_neurons
    sums, squares, outputs = np.zeros((K, n)), np.zeros((K, n)), np.zeros((K, K))
    shift = None
    for j, chunk in _chunks(tail, samples, range(K), batch_size):
        h, z = tail.forward(chunk)
        h, z = h.double(), class_activation(z.double(), activation)
        if shift is None:  # about the first chunk's mean: squares of large means would drown the spread
            shift = h.mean(0)
        squares[j] += (h - shift).square().sum(0).cpu().numpy()
        sums[j] += (h - shift).sum(0).cpu().numpy()
        outputs[j] += z.sum(0).cpu().numpy()
    counts = samples.counts[:, None].astype(float)
    with np.errstate(invalid="ignore"):
        sums, squares, outputs = sums / counts, squares / counts, outputs / counts
    there = counts[:, 0] > 0
    n_there = max(int(there.sum()), 1)
    variance = squares[there].sum(axis=0) / n_there - (sums[there].sum(axis=0) / n_there) ** 2
    base = np.zeros(n) if shift is None else shift.cpu().numpy()
    return ClassMeans(sums + base, outputs, np.sqrt(np.maximum(variance, 0)))


def causal_attribution(
    tail: Tail,
    samples: ClassSamples,
    sources,
    *,
    a: float = 1.0,
    b: float = 1.0,
    offset: str = "constant",
    effect: str = "mean",
    activation: str = "logit",
    means: ClassMeans | None = None,
    batch_size: int = 256,
    force: str | None = None,
) -> Attribution:
    """Return the causal attribution of every neuron, by the cheapest exact way.

    Parameters
    ----------
    tail : Tail
    samples : ClassSamples
    sources : sequence of int
        Source classes; each needs samples unless the closed form needs none.
    a, b : float
        The intervention.
    offset : {"constant", "spread"}
        b_i = b, or b times the neuron's own standard deviation.
    effect : {"mean", "absolute"}
        Absolute value of the mean change, or mean of the absolute change.
    activation : {"logit", "softmax"}
    force : str, optional
        "intervention": do not use the closed form even where it holds.
    """
    if means is None and (a != 1 or offset == "spread"):  # else nothing depends on the samples
        means = class_means(tail, samples, activation=activation, batch_size=batch_size)
    b_i = np.full(tail.n_neurons, float(b)) if offset == "constant" else b * means.spread
    options = (tail, samples, list(sources), a, b_i, effect, activation, batch_size)
    if tail.weight is None or force == INTERVENTION:
        values = _by_intervention(*options)
        return Attribution(values, INTERVENTION, tail.obstacle or "asked for", float("nan"), b_i)
    if activation == "softmax":
        values, method = _by_softmax(*options), SOFTMAX
    else:
        values, method = _closed_form(*options, means), CLOSED
    gap = _gap(values, *options)
    if gap > (1e-9 if tail.weight.dtype == torch.float64 else 1e-3):
        reason = f"the closed form differs from interventions by {gap:.1g} of the largest attribution"
        return Attribution(_by_intervention(*options), INTERVENTION, reason, float("nan"), b_i)
    return Attribution(values, method, "", gap, b_i)


def _chunks(tail, samples, sources, size):
    device = network_device(tail.network)
    for j in sources:
        for chunk in samples.of_class(j).split(size):
            yield j, chunk.to(device)


def _closed_form(tail, samples, sources, a, b_i, effect, activation, batch_size, means):
    weight = np.abs(tail.weight.double().cpu().numpy()).T  # (n, K)
    if a == 1:
        return np.broadcast_to(weight * np.abs(b_i)[:, None], (len(sources), *weight.shape))
    _check_size(tail, samples, sources)
    if effect == "mean":
        move = np.abs((a - 1) * means.neurons[sources] + b_i)
    else:
        total = np.zeros((samples.n_outputs, tail.n_neurons))
        for j, chunk in _chunks(tail, samples, sources, batch_size):
            h = tail.forward(chunk)[0].double().cpu().numpy()
            total[j] += np.abs((a - 1) * h + b_i).sum(axis=0)
        move = total[sources] / samples.counts[sources][:, None]
    return move[:, :, None] * weight


def _check_size(tail, samples, sources):
    needed = 2 * 8 * len(sources) * tail.n_neurons * samples.n_outputs
    way_out = "Analyse a layer with fewer neurons, or set a=1 where everything after the layer is affine."
    check_memory(needed, "layer", f"{tail.n_neurons} neurons x {samples.n_outputs} classes squared", way_out)


def _by_softmax(tail, samples, sources, a, b_i, effect, activation, batch_size):
    """p(do) = softmax(z + W_i ((a - 1) h_i + b_i)): no pass of the network beyond the plain one."""
    weight = tail.weight.double().T  # (n, K)
    shift = torch.as_tensor(b_i, dtype=torch.float64, device=weight.device)
    size = max(1, 4_000_000 // (tail.n_neurons * samples.n_outputs))

    def moved(chunk):
        for part in chunk.split(size):
            h, z = (t.double() for t in tail.forward(part))
            move = ((a - 1) * h + shift)[:, :, None] * weight
            yield slice(0, tail.n_neurons), torch.softmax(z[:, None] + move, -1) - torch.softmax(z, -1)[:, None]

    return _averages(tail, samples, sources, effect, batch_size, moved)


def _by_intervention(tail, samples, sources, a, b_i, effect, activation, batch_size, neurons=None):
    """Change one neuron after the other and run what comes after the layer, `tail.rows` changed samples at once."""
    chosen = torch.arange(tail.n_neurons) if neurons is None else torch.as_tensor(neurons)
    per_pass = min(tail.rows, len(chosen))

    def moved(chunk):
        for part in chunk.split(max(1, tail.rows // per_pass)):
            plain = class_activation(tail.forward(part)[1].double(), activation)[:, None]
            for start in range(0, len(chosen), per_pass):
                index = chosen[start : start + per_pass].to(part.device)
                z = tail.edited(part, _do(index, a, b_i)).double()
                yield slice(start, start + len(index)), class_activation(z, activation) - plain

    return _averages(tail, samples, sources, effect, batch_size, moved, len(chosen))


def _do(index, a, b_i):
    def edit(h):
        changed = h[:, None].repeat(1, len(index), 1)
        shift = torch.as_tensor(b_i, dtype=h.dtype, device=h.device)[index]
        changed[:, torch.arange(len(index)), index] = a * h[:, index] + shift
        return changed

    return edit


def _averages(tail, samples, sources, effect, batch_size, moved, n_neurons=None):
    """Average the changes (B, m, K) of slices of neurons over the samples of each source class."""
    _check_size(tail, samples, sources)
    total = np.zeros((samples.n_outputs, n_neurons or tail.n_neurons, samples.n_outputs))
    for j, chunk in _chunks(tail, samples, sources, batch_size):
        for neurons, change in moved(chunk):
            total[j, neurons] += (change.abs() if effect == "absolute" else change).sum(0).cpu().numpy()
    return np.abs(total[sources]) / samples.counts[sources][:, None, None]


def _gap(values, tail, samples, sources, a, b_i, effect, activation, batch_size):
    """Compare with real interventions on the neurons with the largest weights and the first source with samples."""
    source = next((s for s in range(len(sources)) if samples.counts[sources[s]] > 0), None)
    if source is None:
        return float("nan")
    neurons = np.argsort(-values[source].max(axis=1), kind="stable")[:CHECKED]
    if a == 1 and activation == "logit":  # then any samples give the same
        rows = torch.nonzero(samples.y == sources[source])[:32, 0]
        samples = replace(samples, X=samples.X[rows], y=samples.y[rows])
    options = (samples, [sources[source]], a, b_i, effect, activation, batch_size)
    found = _by_intervention(tail, *options, neurons=neurons)[0]
    wanted = values[source][neurons]
    return float(np.abs(found - wanted).max() / max(wanted.max(), np.finfo(np.float64).tiny))
