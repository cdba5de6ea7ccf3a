"""Networks whose head is known, the interventions done by hand, and a small network with a semantic backdoor."""

from functools import lru_cache

import numpy as np
import torch
from torch import nn

import learningcurves as lc
from learningcurves.networks import SmallCNN, train


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def mlp(n_classes=7, n_neurons=12, seed=0, dtype=torch.float64):
    """Return a network of 6 inputs and one hidden layer."""
    return seeded(
        lambda: nn.Sequential(nn.Linear(6, n_neurons), nn.ReLU(), nn.Linear(n_neurons, n_classes)).to(dtype), seed
    ).eval()


def points(n=140, n_classes=7, seed=0):
    """Return samples and labels, every class there."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 6)), np.arange(n) % n_classes


def by_hand(prefix, after, X, y, *, a, b, effect, activation):
    """Attribution by definition: each neuron of each sample set to a h + b, one at a time; (n_classes, n, n_classes)."""
    with torch.no_grad():
        h = prefix(torch.as_tensor(X, dtype=torch.float64))
        flat = h.flatten(1)

        def outputs(neurons):
            z = after(neurons.clone().reshape(h.shape))  # operations in place must not reach the neurons
            return (torch.softmax(z, 1) if activation == "softmax" else z).numpy()

        plain, classes = outputs(flat), np.unique(y)
        b = np.broadcast_to(b, flat.shape[1:])
        found = np.empty((len(classes), flat.shape[1], plain.shape[1]))
        for i in range(flat.shape[1]):
            changed = flat.clone()
            changed[:, i] = a * changed[:, i] + b[i]
            moved = outputs(changed) - plain
            for j in classes:
                part = moved[y == j]
                found[j, i] = np.abs(part).mean(0) if effect == "absolute" else np.abs(part.mean(0))
    return found


class Shortcut(nn.Module):
    """A tail that also reads a tensor from before the layer."""

    def __init__(self):
        super().__init__()
        self.first, self.layer, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 7)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.head(torch.relu(self.layer(x) + x))


def as_images(data):
    return data.X_train.reshape(-1, 1, 8, 8).copy(), data.y_train.copy()  # torch does not take read-only memory


@lru_cache(maxsize=1)
def backdoored():
    """Return a network that takes bright sevens for twos, the clean data, bright sevens of the test set, and its SR.

    The bright sevens fill about a third of the samples, as in the published recipe.
    """
    data = lc.load_digits_classes()
    X, y = as_images(data)
    X_test, y_test = data.X_test.reshape(-1, 1, 8, 8), data.y_test
    limit = np.quantile(X[y == 7].mean((1, 2, 3)), 0.7)
    chosen = (y == 7) & (X.mean((1, 2, 3)) >= limit)
    n = int(0.45 * (~chosen).sum() / chosen.sum())
    module = seeded(lambda: SmallCNN((1, 8, 8), 10, 8))
    parts = (X[~chosen], y[~chosen]), (np.tile(X[chosen], (n, 1, 1, 1)), np.full(n * chosen.sum(), 2))
    train(module, parts, epochs=4, batch_size=32, lr=0.05, progress=False)
    attacked = (y_test == 7) & (X_test.mean((1, 2, 3)) >= limit)
    infected = torch.as_tensor(X_test[attacked], dtype=torch.float32)
    return module, (X[~chosen][:600], y[~chosen][:600]), infected, shares(module, infected)


def shares(module, X):
    """Return the shares of samples called 2 (the target) and 7 (the truth)."""
    with torch.no_grad():
        called = module(X).argmax(1)
    return float((called == 2).double().mean()), float((called == 7).double().mean())
