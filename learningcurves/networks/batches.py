"""The order of batches: a function of the seed and the epoch alone, never of beta."""

import numpy as np

from learningcurves.networks.parts import NetworkData
from learningcurves.streams import generator


def batch_indices(n_samples: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the batches of one epoch: one random order, cut into pieces whose sizes differ by one at most.

    The order depends on the seed and the epoch alone (never on beta), and no batch is a small remainder.
    """
    order = generator(seed, use="batches", epoch=epoch).permutation(n_samples)
    return np.array_split(order, count_batches(n_samples, batch_size))


def epoch_batches(data: NetworkData, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the batches of one epoch: every sample once, or with `data.batch_share` backdoor samples in every batch.

    In the second case the clean samples come once, and the backdoor samples fill their share of each batch, going
    through one random order after the other, so that their numbers of visits differ by one at most.
    """
    n_clean = int((~data.is_backdoor).sum())
    m = len(data.X) - n_clean
    if data.batch_share is None or not m:
        return batch_indices(len(data.X), batch_size, seed, epoch)
    order = generator(seed, use="batches", epoch=epoch).permutation(n_clean)
    clean = np.array_split(order, steps_of(data, batch_size))
    share = data.batch_share / (1 - data.batch_share)  # clean samples come first in `data`
    counts = [max(1, round(share * len(part))) for part in clean]
    draws = generator(seed, use="backdoor batches", epoch=epoch)
    visits = np.concatenate([draws.permutation(m) for _ in range(-(-sum(counts) // m))]) + n_clean
    parts = np.split(visits[: sum(counts)], np.cumsum(counts)[:-1])
    return [np.concatenate(pair) for pair in zip(clean, parts, strict=True)]


def steps_of(data: NetworkData, batch_size: int) -> int:
    """Return the number of batches in an epoch of `data`."""
    n_clean = int((~data.is_backdoor).sum())
    if data.batch_share is None or n_clean == len(data.X):
        return count_batches(len(data.X), batch_size)
    return count_batches(n_clean, max(1, round((1 - data.batch_share) * batch_size)))


def count_batches(n_samples: int, batch_size: int) -> int:
    """Return the number of batches that so many samples need."""
    return -(-n_samples // batch_size)
