"""Batch norm whose batch statistics count each sample with its weight."""

from contextlib import contextmanager

import torch
from torch import nn

from learningcurves.errors import NotSupported


@contextmanager
def weighted_batch_norm(module: nn.Module):
    r"""Let the batch norms of a module weight the samples of a training batch.

    With weights w_i and s positions in space a channel, the moments of a batch become

    .. math:: \mu = \frac{\sum_i w_i \sum_p x_{ip}}{s \sum_i w_i}, \qquad
              \sigma^2 = \frac{\sum_i w_i \sum_p (x_{ip}-\mu)^2}{s \sum_i w_i},

    so that a sample of weight 0 is left out and one of weight 1 counts as usual. In plain batch norm a backdoor sample
    of weight 0 has no loss but still moves the statistics, hence the clean network.

    Yields
    ------
    callable
        Call it with the weights of the next batch, shape (n,), or with None for plain batch norm.
    """
    layers = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    current: dict[str, torch.Tensor | None] = {"weights": None}

    def set_weights(weights):
        current["weights"] = weights

    def patched(layer):
        plain = layer.forward

        def forward(x):
            weights = current["weights"]
            if weights is None or not layer.training:
                return plain(x)
            return _normalise(layer, x, weights)

        return forward

    for layer in layers:
        layer.forward = patched(layer)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield set_weights
    finally:
        for layer in layers:
            del layer.forward  # the method of the class shows again


def _normalise(layer, x, weights):
    if len(x) != len(weights):
        raise NotSupported(
            f"a batch norm sees {len(x)} rows for {len(weights)} samples, so the samples' weights cannot enter its "
            'statistics. Pass batch_statistics="plain".'
        )
    values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    shape = (1, -1, *[1] * (x.ndim - 2))
    weights = weights.to(values.dtype)
    total = weights.sum()
    # a batch of weight 0 throughout gives no gradient: any moments do, and the running ones stay
    empty = bool(total <= 0)
    share = torch.full_like(weights, 1 / len(weights)) if empty else weights / total
    mean = share @ _mean_over_space(values)
    centred = values - mean.view(shape)
    variance = share @ _mean_over_space(centred.square())
    if layer.track_running_stats and layer.running_mean is not None and not empty:
        _update_running(layer, mean.detach(), variance.detach(), float(total) * (values[0, 0].numel()))
    scale = torch.rsqrt(variance + layer.eps)
    if layer.weight is not None:
        scale = scale * layer.weight
    out = centred * scale.view(shape)
    if layer.bias is not None:
        out = out + layer.bias.view(shape)
    return out.to(x.dtype)


def _mean_over_space(x):
    return x if x.ndim == 2 else x.flatten(2).mean(2)


def _update_running(layer, mean, variance, count):
    layer.num_batches_tracked.add_(1)
    rate = layer.momentum if layer.momentum is not None else 1.0 / float(layer.num_batches_tracked)
    unbiased = variance * (count / (count - 1)) if count > 1 else variance
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), rate)
    layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), rate)
