r"""The probability of a circuit in log space, layer by layer over a whole batch, with its first two derivatives.

Outputs are independent, :math:`x_i \sim` Bernoulli(:math:`\sigma(z_i)`). With rows for nodes and columns for samples, a
layer of products is a sparse 0/1 matrix times the log values below, and its sums are a log-sum-exp. The same matrices,
transposed, carry the derivatives back, so that value and gradient cost two sweeps and every sample is exact:

.. math:: \nabla_z \log P(\alpha) = q - p, \qquad \nabla_z^2 \log P(\alpha) = C - \mathrm{Diag}(p(1-p)),

with :math:`q_i = P(x_i = 1\mid\alpha)` and C the covariance of x given :math:`\alpha` (docs/semantic-loss.md).
"""

import warnings
from dataclasses import dataclass

import numpy as np

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise  # torch is there, but something that it needs is not
    raise ModuleNotFoundError(
        "the semantic loss needs PyTorch. Install it with: pip install learningcurves[torch]", name="torch"
    ) from error

from learningcurves.constraints.compiler import Circuit

# Numbers of a buffer, and samples, computed at once: larger ones leave the cache, and the allocator asks the system for
# fresh pages on every call (measured: twice as slow at a batch of 4,096).
BLOCK = 1 << 17
LEAST_BLOCK = 256
SPARSE_DEVICES = ("cpu", "cuda")  # elsewhere torch has no sparse products, and the matrices are dense
LOG_ZERO = -1e30  # pads sums to equal lengths; finite, since 0 * inf would be NaN


@dataclass(frozen=True)
class Layer:
    """`n_terms` x `n_sums` products of the first `n_below` rows, and the sums of them over the terms."""

    n_below: int
    n_terms: int
    n_sums: int
    products: torch.Tensor  # (n_terms * n_sums, n_below)
    transposed: torch.Tensor

    @property
    def rows(self):
        """Rows of the sums."""
        return slice(self.n_below, self.n_below + self.n_sums)


class CircuitLayers:
    """A circuit as matrices of one type on one device.

    Rows: log p of the support's outputs, log(1 - p) of them, log 0, then the nodes, a layer after the other.
    """

    def __init__(self, circuit: Circuit, dtype: torch.dtype, device: torch.device):
        self.support = torch.tensor(circuit.support, dtype=torch.long, device=device)
        self.n_support = n = len(circuit.support)
        place = {output: i for i, output in enumerate(circuit.support)}
        node_row: dict[int, int] = {}

        def factors(product):
            literals, parts = product
            rows = [place[abs(literal) - 1] + (n if literal < 0 else 0) for literal in literals]
            return sorted(rows + [node_row[k] for k in parts])

        self.layers: list[Layer] = []
        n_rows = 2 * n + 1
        for nodes in _equal_width(circuit):
            n_terms = max(len(circuit.nodes[k]) for k in nodes)
            products = [
                factors(circuit.nodes[k][term]) if term < len(circuit.nodes[k]) else [2 * n]
                for term in range(n_terms)
                for k in nodes
            ]
            matrices = _sparse(products, n_rows, dtype, device)
            self.layers.append(Layer(n_rows, n_terms, len(nodes), *matrices))
            node_row.update({k: n_rows + i for i, k in enumerate(nodes)})
            n_rows += len(nodes)
        self.n_rows = n_rows
        self.block = max(LEAST_BLOCK, 1 << max(0, (BLOCK // n_rows).bit_length() - 1))
        self.root = torch.zeros(n_rows, 1, dtype=dtype, device=device)
        self.root[factors(circuit.root)] = 1.0

    def sweep(self, z):
        """Return log P (B,) and its gradient (B, n) for logits (B, n); builds no graph."""
        parts = [self._sweep(block) for block in z.split(self.block)]
        return parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts, strict=True)))

    def product(self, z, v):
        """Return the Hessian of log P times v, for logits (B, n) and tangents (B, n); builds no graph."""
        return torch.cat(
            [self._product(*block) for block in zip(z.split(self.block), v.split(self.block), strict=True)]
        )

    def _sweep(self, z):
        logs, p, not_p = self._literals(z)
        weights = []
        for layer in self.layers:
            terms = (layer.products @ logs[: layer.n_below]).view(layer.n_terms, layer.n_sums, -1)
            weights.append(_sum(terms, logs[layer.rows]))
        value = (self.root.T @ logs)[0]
        flow = self.root.repeat(1, len(z))
        for layer, weight in zip(self.layers[::-1], weights[::-1], strict=True):
            weight.mul_(flow[layer.rows])
            flow[: layer.n_below].addmm_(layer.transposed, weight.view(-1, len(z)))
        n = self.n_support
        return value, self._to_outputs(flow[:n].mul_(not_p) - flow[n : 2 * n].mul_(p), z)

    def _product(self, z, v):
        """Carry tangents through both sweeps of `_sweep`: `d_` marks them."""
        logs, p, not_p = self._literals(z)
        n = self.n_support
        v = v.T.index_select(0, self.support)
        d_logs = torch.zeros_like(logs)
        d_logs[:n], d_logs[n : 2 * n] = not_p * v, -p * v
        kept = []
        for layer in self.layers:
            shape = (layer.n_terms, layer.n_sums, -1)
            terms = (layer.products @ logs[: layer.n_below]).view(shape)
            d_terms = (layer.products @ d_logs[: layer.n_below]).view(shape)
            weight = _sum(terms, logs[layer.rows])
            torch.sum(weight * d_terms, 0, out=d_logs[layer.rows])
            kept.append((weight, d_terms.sub_(d_logs[layer.rows]).mul_(weight)))
        flow = self.root.repeat(1, len(z))
        d_flow = torch.zeros_like(flow)
        for layer, (weight, d_weight) in zip(self.layers[::-1], kept[::-1], strict=True):
            d_weight.mul_(flow[layer.rows]).add_(weight * d_flow[layer.rows])
            weight.mul_(flow[layer.rows])
            flow[: layer.n_below].addmm_(layer.transposed, weight.view(-1, len(z)))
            d_flow[: layer.n_below].addmm_(layer.transposed, d_weight.view(-1, len(z)))
        d_score = d_flow[:n] * not_p - d_flow[n : 2 * n] * p - (flow[:n] + flow[n : 2 * n]) * (p * not_p * v)
        return self._to_outputs(d_score, z)

    def _literals(self, z):
        """Return all rows with the literals' log values filled in, p and 1 - p; no cancellation at any z."""
        z = z.T.index_select(0, self.support)
        n = self.n_support
        logs = z.new_empty(self.n_rows, z.shape[1])
        tail = z.abs().neg_().exp_().log1p_()
        torch.sub(z.clamp(max=0.0), tail, out=logs[:n])
        torch.sub(z.clamp(min=0.0).neg_(), tail, out=logs[n : 2 * n])
        logs[2 * n] = LOG_ZERO
        return logs, torch.sigmoid(z), torch.sigmoid(-z)

    def _to_outputs(self, rows, z):
        """Put rows of the support among all outputs, 0 elsewhere."""
        found = rows.new_zeros(z.shape[1], z.shape[0])
        return found.index_copy_(0, self.support, rows).T.contiguous()


def _sum(terms, out):
    """Write the log of the sum of e^terms over the first axis into `out`; return each term's share of the sum.

    softmax is several times faster than exp here: torch's exp takes a slow path wherever it underflows.
    """
    shares = torch.softmax(terms, 0)
    torch.sub(terms.amax(0), shares.amax(0).log_(), out=out)  # the largest term has the largest share
    return shares


def _equal_width(circuit: Circuit):
    """Return nodes by layer; a layer is split where padding to its longest sum would double the work."""
    levels = np.array(circuit.levels, dtype=int)
    groups = []
    for level in range(1, levels.max(initial=0) + 1):
        nodes = sorted(np.flatnonzero(levels == level).tolist(), key=lambda k: (-len(circuit.nodes[k]), k))
        group: list[int] = []
        for k in nodes:
            if group and 2 * len(circuit.nodes[k]) < len(circuit.nodes[group[0]]):
                groups.append(group)
                group = []
            group.append(k)
        groups.append(group)
    return groups


def _sparse(rows, n_columns, dtype, device):
    """Return the 0/1 matrix with ones at the columns `rows[i]` of row i, and its transpose, both as sparse CSR."""
    lengths = [len(columns) for columns in rows]
    row = np.repeat(np.arange(len(rows)), lengths)
    column = np.array([c for columns in rows for c in columns], dtype=np.int64)
    order = np.lexsort((row, column))
    return (
        _csr(row, column, (len(rows), n_columns), dtype, device),
        _csr(column[order], row[order], (n_columns, len(rows)), dtype, device),
    )


def _csr(row, column, shape, dtype, device):
    starts = np.searchsorted(row, np.arange(shape[0] + 1))
    ones = torch.ones(len(column), dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        starts, columns = torch.from_numpy(starts), torch.from_numpy(np.ascontiguousarray(column))
        matrix = torch.sparse_csr_tensor(starts, columns, ones, shape, check_invariants=True)
    return (matrix if device.type in SPARSE_DEVICES else matrix.to_dense()).to(device)
