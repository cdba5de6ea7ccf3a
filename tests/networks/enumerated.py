"""Rules over a few outputs by enumeration: the reference that circuits and heads are compared with."""

import itertools

import torch


class EnumeratedRules:
    """Semantic loss of a rule given as a function of a tuple of bits."""

    def __init__(self, n, rule):
        states = [bits for bits in itertools.product((0, 1), repeat=n) if rule(bits)]
        self.models = torch.tensor(states, dtype=torch.float64)

    def log_weights(self, z):
        return z.double() @ self.models.T

    def log_probability(self, z):
        z = z.double()
        return torch.logsumexp(self.log_weights(z), 1) - torch.nn.functional.softplus(z).sum(1)

    def marginals(self, z):
        return torch.softmax(self.log_weights(z), 1) @ self.models

    def covariance(self, z):
        share = torch.softmax(self.log_weights(z), 1)
        q = share @ self.models
        return torch.einsum("nm,mk,ml->nkl", share, self.models, self.models) - q[:, :, None] * q[:, None]

    def hessian_product(self, z, v):
        p = torch.sigmoid(z.double())
        return p * (1 - p) * v - torch.einsum("nkl,nl->nk", self.covariance(z), v)
