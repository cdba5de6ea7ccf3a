"""Neural Cleanse: for every class the smallest patch that turns all clean samples into it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from learningcurves.checks import check_integer, check_number, check_seed
from learningcurves.defences.clean_samples import check_network, clean_samples
from learningcurves.defences.soda_index import MIN_CLASSES, false_positive_rate, mad_index, null_threshold
from learningcurves.defences.soda_report import BACKDOORED, CANNOT_TELL, CLEAN
from learningcurves.errors import InvalidInput
from learningcurves.networks.runtime import evaluation_mode, network_device, private_random_state, torch_threads
from learningcurves.streams import generator


@dataclass(frozen=True, eq=False)
class CleanseReport:
    """Result of `detect_neural_cleanse`.

    Attributes
    ----------
    verdict : {"backdoored", "clean", "cannot tell"}
    target : int or None
        Class with the smallest patch, by the number of its output.
    index : ndarray of shape (n_classes,)
        Signed median-MAD index of `size`; flagged where below -threshold.
    flagged : bool ndarray of shape (n_classes,)
    size : ndarray of shape (n_classes,)
        L1 norm of each mask: the number of pixels, if they were all covered fully. NaN where no patch reached `success`.
    success : ndarray of shape (n_classes,)
        Share of the clean samples of other classes that the patch turns into the class.
    masks : ndarray of shape (n_classes, H, W)
    patterns : ndarray of shape (n_classes, C, H, W)
    threshold, fpr : float
        As in `SodaReport`.
    reasons : tuple of str
    class_names : tuple of str
    settings : mapping
    seconds : float
    """

    verdict: str
    target: int | None
    index: np.ndarray
    flagged: np.ndarray
    size: np.ndarray
    success: np.ndarray
    masks: np.ndarray
    patterns: np.ndarray
    threshold: float
    fpr: float
    reasons: tuple[str, ...]
    class_names: tuple[str, ...]
    settings: Mapping
    seconds: float

    def __repr__(self):
        if self.target is None:
            return f"CleanseReport({self.verdict!r}: {'; '.join(self.reasons)})"
        name, index = self.class_names[self.target], self.index[self.target]
        return f"CleanseReport({self.verdict!r}, smallest patch {name!r}, index {index:.2f}, threshold -{self.threshold:.2f})"


def detect_neural_cleanse(
    network: nn.Module,
    clean_data,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    threshold: float | None = None,
    fpr: float | None = None,
    steps: int = 300,
    batch_size: int = 64,
    lr: float = 0.1,
    success: float = 0.95,
    cost: float = 1e-3,
    cost_factor: float = 1.5,
    patience: int = 10,
    classes=None,
    seed: int = 0,
    threads: int | None = 1,
) -> CleanseReport:
    r"""Look for a stamped trigger [1]_: the contrast to `detect_soda`, which looks for none.

    For every class t a mask m in [0, 1] and a pattern p are found that minimise

    .. math:: \mathrm{CE}\big(f((1-m)\,x + m\,p),\, t\big) + c\,|m|_1

    over clean samples of the other classes, with c raised by `cost_factor` while at least the share `success` of the last
    batches turns into t, and lowered by as much to the power 1.5 while less does, after `patience` steps in a row. Kept is
    the smallest mask seen while the share was reached. A class whose mask is abnormally small has a trigger.

    Parameters
    ----------
    network : torch.nn.Module
        It is not changed.
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
        Images of shape (n, C, H, W).
    value_range : tuple (low, high), default=(0, 1)
        Of the pattern's values.
    threshold, fpr : float, optional
        As for `detect_soda`; 2 by default.
    steps : int, default=300
        Adam steps a class.
    batch_size, lr, success, cost, cost_factor, patience
        See above; `cost` is c at the start.
    seed : int, default=0
        Root of the batches and of the start.

    Notes
    -----
    Masks that never reach `success` have no size; with fewer than five sizes the verdict is "cannot tell".

    References
    ----------
    .. [1] Wang et al., Neural Cleanse: identifying and mitigating backdoor attacks in neural networks, IEEE S&P 2019.
    """
    begun = time.perf_counter()
    check_network(network)
    if threshold is not None and fpr is not None:
        raise InvalidInput("`threshold` and `fpr` are both given; `fpr` chooses the threshold. Pass one of them.")
    for name, value in (("steps", steps), ("batch_size", batch_size), ("patience", patience)):
        check_integer(value, name, low=1)
    check_number(lr, "lr", low=0, open_low=True)
    check_number(success, "success", low=0, high=1, open_low=True)
    check_number(cost, "cost", low=0)
    check_number(cost_factor, "cost_factor", low=1)
    check_seed(seed)
    if not (len(value_range) == 2 and value_range[0] < value_range[1]):
        raise InvalidInput(f"`value_range={value_range!r}` is not (low, high) with low < high.")
    with torch_threads(threads):
        samples = clean_samples(network, clean_data, classes=classes)
        if samples.X.ndim != 4:
            raise InvalidInput(f"`clean_data` holds samples of shape {tuple(samples.X.shape[1:])}; expected images.")
        search = _Search(network, samples, value_range, lr, cost, cost_factor, success, patience)
        found = [
            search.run(t, steps, batch_size, generator(seed, use="cleanse", target=t)) for t in range(samples.n_classes)
        ]
    size, share, masks, patterns = (np.array([f[k] for f in found]) for k in range(4))
    K = samples.n_classes
    index = mad_index(size)
    if fpr is not None:
        threshold = null_threshold(K, fpr) if K >= 3 else float("nan")
    threshold = 2.0 if threshold is None else check_number(threshold, "threshold", low=0, open_low=True)
    flagged = np.nan_to_num(index, nan=np.inf) < -threshold
    reasons = []
    if np.isfinite(size).sum() < MIN_CLASSES:
        reasons.append(f"{CANNOT_TELL}: {int(np.isfinite(size).sum())} classes have a patch, {MIN_CLASSES} are needed")
    elif not np.isfinite(index).any():
        reasons.append(f"{CANNOT_TELL}: more than half of the patches have the same size (MAD = 0)")
    verdict = CANNOT_TELL if reasons else BACKDOORED if flagged.any() else CLEAN
    return CleanseReport(
        verdict=verdict,
        target=int(np.nanargmin(index)) if np.isfinite(index).any() else None,
        index=index,
        flagged=flagged,
        size=size,
        success=share,
        masks=masks,
        patterns=patterns,
        threshold=threshold,
        fpr=false_positive_rate(K, threshold) if K >= 3 else float("nan"),
        reasons=tuple(reasons),
        class_names=samples.class_names,
        settings={
            "steps": steps, "batch_size": batch_size, "lr": lr, "success": success, "cost": cost,
            "cost_factor": cost_factor, "patience": patience, "value_range": tuple(value_range), "seed": seed,
            "n_clean": len(samples.X),
        },
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


class _Search:
    """The search of one class's mask and pattern after the other."""

    def __init__(self, network, samples, value_range, lr, cost, factor, success, patience):
        self.network, self.samples, self.device = network, samples, network_device(network)
        self.low, self.high = value_range
        self.lr, self.cost, self.factor, self.success, self.patience = lr, cost, factor, success, patience

    def run(self, target, steps, batch_size, draws):
        """Return size, share, mask (H, W) and pattern (C, H, W) of one class."""
        X = self.samples.X[torch.from_numpy(np.flatnonzero(self.samples.y != target))]
        if len(X) == 0:
            raise InvalidInput("`clean_data` holds samples of one class alone; a patch needs others to turn.")
        shape, dtype = X.shape[1:], X.dtype
        # of logits, so that mask and pattern stay in their ranges
        m = torch.as_tensor(draws.normal(-1.0, 0.1, shape[1:]), dtype=dtype, device=self.device).requires_grad_(True)
        p = torch.as_tensor(draws.normal(0.0, 0.1, shape), dtype=dtype, device=self.device).requires_grad_(True)
        solver = torch.optim.Adam([m, p], lr=self.lr, betas=(0.5, 0.9))
        cost, above, below = self.cost, 0, 0
        best, shares = (np.inf, None, None), []
        y = torch.full((batch_size,), target, device=self.device)
        with evaluation_mode(self.network), private_random_state(self.device), torch.enable_grad():
            for _ in range(steps):
                index = torch.from_numpy(draws.integers(0, len(X), batch_size))
                mask, pattern = self._both(m, p)
                outputs = self.network((1 - mask) * X[index].to(self.device) + mask * pattern)
                size = mask.sum()
                value = F.cross_entropy(outputs, y) + cost * size
                shares = [*shares[-4:], float((outputs.argmax(1) == y).double().mean())]
                reached = len(shares) == 5 and np.mean(shares) >= self.success
                if reached and float(size.detach()) < best[0]:
                    best = (float(size.detach()), mask.detach().clone(), pattern.detach().clone())
                above, below = (above + 1, 0) if reached else (0, below + 1)
                if above == self.patience:
                    cost, above = cost * self.factor, 0
                elif below == self.patience:
                    cost, below = cost / self.factor**1.5, 0
                m.grad, p.grad = torch.autograd.grad(value, [m, p])
                solver.step()
        mask, pattern = best[1:] if best[1] is not None else [t.detach() for t in self._both(m, p)]
        size = best[0] if best[1] is not None else np.nan
        return size, self._share(X, mask, pattern, target), mask.cpu().numpy(), pattern.cpu().numpy()

    def _both(self, m, p):
        return torch.sigmoid(m), self.low + (self.high - self.low) * torch.sigmoid(p)

    def _share(self, X, mask, pattern, target):
        with torch.no_grad():
            hits = [
                self.network((1 - mask) * part.to(self.device) + mask * pattern).argmax(1) == target
                for part in X.split(512)
            ]
        return float(torch.cat(hits).double().mean())
