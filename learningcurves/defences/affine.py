"""Is everything after a layer affine in its output? A proof by following the operations, and the weights by autograd."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# linear in all their tensor arguments together
_LINEAR = {
    *(aten.add, aten.sub, aten.rsub, aten.neg, aten.mean, aten.sum, aten.clone, aten.copy, aten._to_copy, aten.detach),
    *(aten.view, aten._unsafe_view, aten.reshape, aten.alias, aten.expand, aten.permute, aten.transpose, aten.t),
    *(aten.squeeze, aten.unsqueeze, aten.slice, aten.select, aten.split, aten.split_with_sizes, aten.unbind),
    *(aten.cat, aten.stack, aten.flip, aten.roll, aten.repeat, aten.index_select, aten.constant_pad_nd),
    *(aten.avg_pool1d, aten.avg_pool2d, aten.avg_pool3d, aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d),
    *(aten.upsample_nearest2d, aten.upsample_bilinear2d, aten.lift_fresh, aten.cumsum),
}
# affine as long as only the named positions hold the layer's output, and for products only one of them
_SOME = {
    aten.mul: {0, 1},
    aten.div: {0},
    aten.mm: {0, 1},
    aten.bmm: {0, 1},
    aten.mv: {0, 1},
    aten.matmul: {0, 1},
    aten.convolution: {0},
}
_TRAINING_AT = {aten.native_batch_norm: 5, aten.cudnn_batch_norm: 5, aten.miopen_batch_norm: 5}


class AffineTrace(TorchDispatchMode):
    """Follows a tensor through the operations that run inside the block and notes the first that is not affine in it.

    `follow(tensor)` starts it; afterwards `obstacle` is None, or the name of the operation. Shapes, indices and Python
    numbers taken from the tensor end the proof too.
    """

    def __init__(self):
        super().__init__()
        self.obstacle: str | None = None
        self._followed: dict[int, torch.Tensor] = {}  # kept alive, so that no other tensor takes the same id

    def follow(self, tensor):
        """Follow a tensor from here on."""
        self._followed[id(tensor)] = tensor

    def follows(self, tensor) -> bool:
        """Whether a tensor was computed from what is followed."""
        return id(tensor) in self._followed

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operation and note whether it is affine in the followed tensors among its arguments."""
        kwargs = kwargs or {}
        touched = {i for i, value in enumerate(args) if self._holds(value)}
        named = any(self._holds(value) for value in kwargs.values())
        output = func(*args, **kwargs)
        if touched or named:
            if self.obstacle is None and (named or not _is_affine(func.overloadpacket, touched, args)):
                self.obstacle = func.overloadpacket.__name__.rstrip("_")
            for tensor in _tensors(output):
                self.follow(tensor)
            if func._schema.is_mutable and args and torch.is_tensor(args[0]):
                self.follow(args[0])
        return output

    def _holds(self, value):
        return any(id(tensor) in self._followed for tensor in _tensors(value))


def _is_affine(operation, touched, args):
    name = operation.__name__
    if name.endswith("_") and not name.endswith("__"):  # in place
        operation = getattr(aten, name.rstrip("_"), operation)
    if operation in _LINEAR:
        return True
    if operation in _SOME:
        return len(touched) == 1 and touched <= _SOME[operation]
    if operation in (aten.addmm, aten.baddbmm):
        return not {1, 2} <= touched
    if operation in _TRAINING_AT:
        return touched == {0} and args[_TRAINING_AT[operation]] is False
    return operation == aten._native_batch_norm_legit_no_training and touched == {0}


def _tensors(value):
    if torch.is_tensor(value):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in _tensors(part)]
    return []
