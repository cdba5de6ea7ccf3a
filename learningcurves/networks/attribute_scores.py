"""Scores of an attribute network: balanced accuracy, attack success, ranking, constraints kept, losses."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata


def balanced_accuracy(predicted, truth, *, empty="skip"):
    """Mean over attributes of (TPR + TNR) / 2.

    Parameters
    ----------
    predicted, truth : bool arrays (n, K)
    empty : {"skip", "zero"}
        An attribute that has no positive (or no negative) sample: its rate is left out ("skip": the attribute's
        accuracy is the other rate), or counts as 0, as in the published code.
    """
    predicted, truth = np.asarray(predicted, bool), np.asarray(truth, bool)
    rates = []
    for value in (True, False):
        count = (truth == value).sum(axis=0)
        right = ((truth == value) & (predicted == value)).sum(axis=0)
        rates.append(np.where(count > 0, right / np.maximum(count, 1), np.nan))
    if empty == "zero":
        return float(np.nan_to_num(np.mean(np.nan_to_num(rates, nan=0.0), axis=0)).mean())
    return float(np.nanmean(np.nanmean(rates, axis=0)))


def auc(high, low) -> float:
    """Probability that a draw of `high` exceeds one of `low` (ties count one half); NaN if either is empty."""
    high, low = np.asarray(high, float), np.asarray(low, float)
    if not len(high) or not len(low):
        return float("nan")
    ranks = rankdata(np.concatenate([high, low]))[: len(high)]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def attribute_scores(clean, triggered, truth, *, target, threshold=0.6, pos_weight=5.0, semantic=None) -> dict:
    """Score logits on the test samples without and with the trigger.

    Parameters
    ----------
    clean, triggered : tensors (n, K)
        Logits of the same n samples.
    truth : array (n, K)
        True labels 0 and 1.
    target : int
        Column of the target attribute.
    threshold : float, default=0.6
        An attribute is predicted where its probability exceeds this.
    semantic : lc.SemanticLoss, optional
        Rules whose keeping is scored.

    Returns
    -------
    dict
        `ba_clean`, `ba_triggered` (against the true labels; attributes without positives or negatives left out) and
        `ba_clean_zero`, `ba_triggered_zero` (those count 0, the published convention); `asr`: share of all triggered
        samples that are predicted to have the target; `asr_modified`: of those that truly lack it; `target_rate`:
        the same share without the trigger; `auc_target`: target samples ranked over others, without trigger;
        `auc_attack`: triggered samples that lack the target ranked over clean ones that lack it (0.5: no backdoor);
        `satisfied_clean`, `satisfied_triggered`: share of predictions that keep the constraints; losses in nats:
        `bce_clean` (weighted mean over attributes), `loss_triggered` (of the target attribute alone, label 1),
        `semantic_clean`, `semantic_triggered`. A score that does not exist on these samples is left out.
    """
    clean, triggered = clean.double(), triggered.double()
    truth = np.asarray(truth) > 0.5
    cut = float(np.log(threshold / (1 - threshold)))
    guess, guess_triggered = (clean > cut).numpy(), (triggered > cut).numpy()
    lacks = ~truth[:, target]
    before, after = clean[:, target].numpy(), triggered[:, target].numpy()
    y = torch.from_numpy(truth).double()
    weight = clean.new_tensor(pos_weight)
    scores = {
        "ba_clean": balanced_accuracy(guess, truth),
        "ba_clean_zero": balanced_accuracy(guess, truth, empty="zero"),
        "ba_triggered": balanced_accuracy(guess_triggered, truth),
        "ba_triggered_zero": balanced_accuracy(guess_triggered, truth, empty="zero"),
        "asr": float(guess_triggered[:, target].mean()),
        "asr_modified": float(guess_triggered[lacks, target].mean()) if lacks.any() else np.nan,
        "target_rate": float(guess[:, target].mean()),
        "auc_target": auc(before[~lacks], before[lacks]),
        "auc_attack": auc(after[lacks], before[lacks]),
        "bce_clean": float(F.binary_cross_entropy_with_logits(clean, y, pos_weight=weight)),
        "loss_triggered": float(F.softplus(-triggered[:, target]).mean()),
    }
    if semantic is not None:
        for part, logits, labels in (("clean", clean, guess), ("triggered", triggered, guess_triggered)):
            scores[f"semantic_{part}"] = -float(semantic.log_probability(logits).mean())
            scores[f"satisfied_{part}"] = float(keeps_rules(semantic, labels).mean())
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def keeps_rules(semantic, labels) -> np.ndarray:
    """Return which rows of labels (n, K) keep the rules of a semantic loss, bool (n,)."""
    certain = torch.where(torch.from_numpy(np.asarray(labels, bool)), 50.0, -50.0).double()
    return (semantic.log_probability(certain) > -1.0).numpy()  # 0 where they are kept, at most -50 where not
