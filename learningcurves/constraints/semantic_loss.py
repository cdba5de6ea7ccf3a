r"""The semantic loss: minus the log of the probability that independent outputs satisfy logical constraints [1]_.

.. math:: \ell(z) = -\log P(x \models \alpha), \qquad x_i \sim \mathrm{Bernoulli}(\sigma(z_i))

.. [1] Xu, Zhang, Friedman, Liang and Van den Broeck, "A semantic loss function for deep learning with symbolic
   knowledge", ICML 2018.
"""

import math

from learningcurves.checks import check_choice
from learningcurves.constraints.compiler import compile_constraints
from learningcurves.constraints.layers import CircuitLayers, torch
from learningcurves.constraints.notation import load_constraints
from learningcurves.errors import InvalidInput

REDUCTIONS = ("mean_log", "log_mean", "legacy_window")
_BLOCK = 1 << 22  # numbers of a covariance computed at once


class SemanticLoss(torch.nn.Module):
    r"""Semantic loss of the logits of a multi-label network, exact, differentiable twice, in nats.

    Parameters
    ----------
    constraints : str, path or Constraints
        Lines of the notation of `learningcurves.constraints.notation`, or a file of them; all must hold together.
    reduction : {"mean_log", "log_mean", "legacy_window"}
        How a batch of B samples becomes one number, with :math:`P_n = P(x_n \models \alpha)`:

        - "mean_log": :math:`\frac1B\sum_n -\log P_n`, a sum over samples like any other loss;
        - "log_mean": :math:`-\log\frac1B\sum_n P_n`, as in released scripts: it all but ignores samples that violate
          the constraints while others satisfy them, and it is not a sum over samples, so no slope is defined for it;
        - "legacy_window": "log_mean" of *scrambled* logits, only to compare with numbers published with it: the (B, n)
          logits are reshaped (not transposed) to (n, B) and the first n columns are read. It needs B >= n.
    names : sequence of str, optional
        Names of the outputs, which lines may use in place of ``X0.8``.

    Attributes
    ----------
    constraints : Constraints
    circuit : Circuit

    Raises
    ------
    InvalidInput
        For a malformed line, an unknown output (both with the number of the line) or lines that contradict each other;
        when called, for logits that are not of shape (batch, n).

    Examples
    --------
    >>> import torch, learningcurves as lc
    >>> loss = lc.SemanticLoss("X0 | X1")
    >>> loss(torch.zeros(4, 2))  # -log(3/4)
    tensor(0.2877)
    """

    def __init__(self, constraints, reduction="mean_log", *, names=None):
        super().__init__()
        self.reduction = check_choice(reduction, "reduction", REDUCTIONS)
        self.constraints = load_constraints(constraints, names=names)
        self.circuit = compile_constraints(self.constraints)
        self._layers = {}
        self._sizes = set()  # numbers of outputs that fit

    def forward(self, logits):
        """Return the loss of a batch of logits (batch, n), a scalar in nats."""
        logits = self._checked(logits)
        if self.reduction == "legacy_window":
            logits = legacy_windows(logits)
        log_p = self._log_probability(logits)
        if self.reduction == "mean_log":
            return -log_p.mean()
        return math.log(len(logits)) - torch.logsumexp(log_p, 0)

    def log_probability(self, logits):
        r"""Return :math:`\log P(x_n \models \alpha)` of each sample, shape (batch,), in nats."""
        return self._log_probability(self._checked(logits))

    def marginals(self, logits):
        r"""Return :math:`q_{ni} = P(x_i = 1 \mid \alpha)` of each sample, shape (batch, n)."""
        logits = self._checked(logits)
        return torch.sigmoid(logits) + _LogProbability.apply(logits, self._layers_for)[1]

    def hessian_product(self, logits, vectors):
        r"""Return :math:`(\mathrm{Diag}(p(1-p)) - C)\,v`, the Hessian of each sample's -log P times its vector.

        Parameters
        ----------
        logits, vectors : tensors of shape (batch, n)

        Returns
        -------
        tensor of shape (batch, n)
        """
        logits = self._checked(logits)
        if vectors.shape != logits.shape:
            raise InvalidInput(
                f"`vectors` has shape {tuple(vectors.shape)}; expected one vector a sample, {tuple(logits.shape)}."
            )
        return -_Product.apply(logits, vectors.to(logits.dtype), self._layers_for)

    def covariance(self, logits):
        r"""Return :math:`C_n = \mathrm{Cov}(x \mid \alpha)` of each sample, shape (batch, n, n)."""
        logits = self._checked(logits)
        batch, n = logits.shape
        unit = torch.eye(n, dtype=logits.dtype, device=logits.device)
        rows = max(1, _BLOCK // (n * self._layers_for(logits).n_rows))
        parts = []
        for block in logits.split(rows):
            found = _Product.apply(block.repeat_interleave(n, 0), unit.repeat(len(block), 1), self._layers_for)
            parts.append(found.view(len(block), n, n))
        p = torch.sigmoid(logits)
        return torch.cat(parts or [logits.new_zeros(0, n, n)]) + torch.diag_embed(p * torch.sigmoid(-logits))

    def __getstate__(self):
        return {**self.__dict__, "_layers": {}}  # sparse matrices cannot be copied; they are made anew

    def extra_repr(self):
        """Return what `repr` shows."""
        lines, nodes = len(self.constraints.lines), len(self.circuit.nodes)
        return f"{lines} lines, {len(self.circuit.support)} outputs, {nodes} nodes, reduction={self.reduction!r}"

    def _log_probability(self, logits):
        return _LogProbability.apply(logits, self._layers_for)[0]

    def _layers_for(self, logits) -> CircuitLayers:
        key = logits.dtype, logits.device
        if key not in self._layers:
            self._layers[key] = CircuitLayers(self.circuit, *key)
        return self._layers[key]

    def _checked(self, logits):
        if not torch.is_tensor(logits) or not logits.is_floating_point() or logits.dim() != 2:
            got = f"shape {tuple(logits.shape)}, {logits.dtype}" if torch.is_tensor(logits) else type(logits).__name__
            raise InvalidInput(f"`logits` is a tensor of floats of shape (batch, n); got {got}.")
        if len(logits) == 0:
            raise InvalidInput("`logits` holds no sample. Pass at least one row.")
        if logits.shape[1] not in self._sizes:
            self._sizes.add(self.constraints.check_size(logits.shape[1]))
        # half precision has no room for log probabilities of hundreds of nats beside those near 0
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def legacy_windows(logits):
    r"""Return the rows that the published computation fed to its circuit: (B, n) logits -> (n, n).

    Row r is the flat window [B r, B r + n) of the batch: it holds output (B r + c) mod n of sample floor((B r + c) / n)
    as constraint variable c.
    """
    batch, n = logits.shape
    if batch < n:
        raise InvalidInput(
            f'reduction="legacy_window" needs batches of at least {n} samples (one an output); got {batch}. It is there '
            'to repeat published numbers; use "mean_log".'
        )
    return logits.reshape(n, batch)[:, :n]


class _LogProbability(torch.autograd.Function):
    """(log P, its gradient in z). The gradient is an output of its own, so that differentiating it is right.

    The matrices are made inside `forward`, where no transform of torch.func wraps new tensors.
    """

    @staticmethod
    def forward(z, layers_for):
        with torch.autocast(z.device.type, enabled=False):
            return layers_for(z).sweep(z)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.layers_for = inputs[1]
        ctx.save_for_backward(inputs[0], output[1])
        ctx.save_for_forward(inputs[0], output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, d_value, d_gradient):
        z, gradient = ctx.saved_tensors
        found = None if d_value is None else d_value[:, None] * gradient
        if d_gradient is not None:
            product = _Product.apply(z, d_gradient, ctx.layers_for)
            found = product if found is None else found + product
        return found, None

    @staticmethod
    def jvp(ctx, tangent, _):
        z, gradient = ctx.saved_tensors
        return (gradient * tangent).sum(-1), _Product.apply(z, tangent, ctx.layers_for)

    @staticmethod
    def vmap(info, in_dims, z, layers_for):
        z = z.movedim(in_dims[0], 0)
        value, gradient = _LogProbability.apply(z.flatten(0, 1), layers_for)
        return (value.view(z.shape[:2]), gradient.view(z.shape)), (0, 0)


class _Product(torch.autograd.Function):
    """Hessian of log P times v. Third derivatives are refused, not guessed."""

    @staticmethod
    def forward(z, v, layers_for):
        with torch.autocast(z.device.type, enabled=False):
            return layers_for(z).product(z, v)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.layers_for = inputs[2]
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, d_product):
        if ctx.needs_input_grad[0]:
            raise NotImplementedError("third derivatives of the semantic loss are not available.")
        return None, _Product.apply(ctx.saved_tensors[0], d_product, ctx.layers_for), None

    @staticmethod
    def vmap(info, in_dims, z, v, layers_for):
        z, v = (
            x.unsqueeze(0).expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0)
            for x, d in ((z, in_dims[0]), (v, in_dims[1]))
        )
        return _Product.apply(z.flatten(0, 1), v.flatten(0, 1), layers_for).view(z.shape), 0
