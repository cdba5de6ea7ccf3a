"""MobileNetV2 as a frozen feature extractor, from a file of 8-bit weights."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput
from learningcurves.networks.runtime import private_random_state, torch_threads
from learningcurves.networks.weights import file_digest
from learningcurves.storage import load_arrays

# (expansion, channels, repeats, first stride) of the inverted residual stages
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class SameConv(nn.Conv2d):
    """A 3x3 or 1x1 convolution with TensorFlow's SAME padding (even sizes) and an optional ReLU6."""

    def __init__(self, n_in, n_out, kernel=1, stride=1, groups=1, activation=True):
        # at stride 2 the SAME padding of an even side is one row below and one column right, none above and left
        padding = 0 if kernel == 1 or stride == 2 else 1
        super().__init__(n_in, n_out, kernel, stride, padding, groups=groups)
        self.pads_after = kernel == 3 and stride == 2
        self.activation = activation

    def forward(self, x):
        """Return the convolution, clipped to [0, 6] if there is an activation."""
        x = super().forward(F.pad(x, (0, 1, 0, 1)) if self.pads_after else x)
        return F.relu6(x) if self.activation else x


class InvertedResidual(nn.Sequential):
    """Expand, depthwise 3x3, project; the input is added where the shape stays."""

    def __init__(self, n_in, n_out, stride, expansion):
        hidden = n_in * expansion
        expand = [] if expansion == 1 else [SameConv(n_in, hidden)]
        depthwise = SameConv(hidden, hidden, 3, stride, groups=hidden)
        super().__init__(*expand, depthwise, SameConv(hidden, n_out, activation=False))
        self.adds_input = stride == 1 and n_in == n_out

    def forward(self, x):
        """Return the block's output."""
        return super().forward(x) + x if self.adds_input else super().forward(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 1.0 [1]_ for images in [-1, 1], batch norm folded into the convolutions.

    Input (n, 3, H, W) with H and W multiples of 32, features (n, 1280), output (n, n_classes).

    References
    ----------
    .. [1] Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks, CVPR 2018.
    """

    def __init__(self, n_classes: int = 1001):
        super().__init__()
        layers: list[nn.Module] = [SameConv(3, 32, 3, 2)]
        n_in = 32
        for expansion, n_out, repeats, stride in STAGES:
            for repeat in range(repeats):
                layers.append(InvertedResidual(n_in, n_out, stride if repeat == 0 else 1, expansion))
                n_in = n_out
        self.body = nn.Sequential(*layers, SameConv(n_in, 1280))
        self.head = nn.Linear(1280, n_classes)

    def features(self, x):
        """Return the mean over space of the last convolution, shape (n, 1280)."""
        return self.body(x).mean(dim=(2, 3))

    def forward(self, x):
        """Return the logits."""
        return self.head(self.features(x))

    def load_int8(self, path) -> "MobileNetV2":
        """Read weights stored as 8-bit integers with one scale per output channel."""
        arrays = load_arrays(path)
        layers = [*(layer for layer in self.body.modules() if isinstance(layer, SameConv)), self.head]
        for i, layer in enumerate(layers):
            try:
                weight, scale, bias = (arrays[f"conv{i:02d}.{part}"] for part in ("weight_int8", "scale", "bias"))
            except KeyError as error:
                raise InvalidInput(
                    f"`{path}` lacks {error}; expected {len(layers)} layers conv00, conv01, ..."
                ) from None
            weight = weight.astype(np.float32) * scale.reshape(-1, *[1] * (weight.ndim - 1))
            if weight.size != layer.weight.numel() or weight.shape[:2] != tuple(layer.weight.shape[:2]):
                raise InvalidInput(
                    f"conv{i:02d} in `{path}` has shape {weight.shape}, not {tuple(layer.weight.shape)}."
                )
            layer.weight.data = torch.from_numpy(weight.reshape(layer.weight.shape))
            layer.bias.data = torch.from_numpy(bias.astype(np.float32))
        return self


class MobileNetV2Features:
    """Frozen ImageNet features of images of any size.

    Parameters
    ----------
    path : path
        Safetensors file with ``convNN.weight_int8``, ``convNN.scale`` and ``convNN.bias`` for NN = 00..52.
    size : int, default=128
        Side to which images are resized (bicubic, then clipped to [0, 1]); a multiple of 32, 96 to 224 sensible.
    batch_size : int, default=32
        Images in one pass: bounds the memory (about 5 MB an image at 128), changes the numbers by rounding only.
    threads : int or None, default=1
        Torch threads while it computes; None leaves torch's own setting.
    """

    def __init__(self, path, *, size: int = 128, batch_size: int = 32, threads: int | None = 1):
        if not Path(path).is_file():
            raise InvalidInput(f"`path={str(path)!r}` is not a file. Pass the MobileNetV2 weights (.safetensors).")
        self.size = check_integer(size, "size", low=32)
        if size % 32:
            raise InvalidInput(f"`size={size}` is not a multiple of 32; 128 is fast, 224 is the training resolution.")
        self.batch_size = check_integer(batch_size, "batch_size", low=1)
        self.threads = threads
        with private_random_state():  # the initial weights that the file replaces would draw from torch's generator
            self.network = MobileNetV2().load_int8(path).eval()
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.facts = {
            "extractor": "MobileNetV2 (ImageNet, 8-bit weights)",
            "weights_sha256": file_digest(path),
            "preprocessing": f"RGB in [0, 1], bicubic to {self.size}x{self.size}, clipped, 2 x - 1",
        }
        self.n_features = 1280

    def features(self, X, image_shape=None) -> np.ndarray:
        """Return the features of images as float32 of shape (n, 1280).

        Parameters
        ----------
        X : array of shape (n, C, H, W), or rows (n, C*H*W) with `image_shape`
            Images in [0, 1], C = 3 (RGB) or 1 (grey, repeated).
        image_shape : tuple (C, H, W), optional
            Needed for rows.
        """
        return self._map(self.network.features, X, image_shape)

    def logits(self, X, image_shape=None) -> np.ndarray:
        """Return the 1001 ImageNet logits (0 is background, class c of ImageNet is c + 1); arguments as `features`."""
        return self._map(self.network, X, image_shape)

    def _map(self, function, X, image_shape):
        images = _as_images(X, image_shape)
        parts = []
        with torch.inference_mode(), torch_threads(self.threads):
            for start in range(0, len(images), self.batch_size):
                parts.append(function(self._prepare(images[start : start + self.batch_size])).numpy())
        return np.concatenate(parts)

    def _prepare(self, chunk):
        x = torch.from_numpy(np.array(chunk, dtype=np.float32))
        low, high = float(x.min()), float(x.max())
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise InvalidInput(
                f"`X` holds values in [{low:g}, {high:g}]; images must be in [0, 1]. Divide bytes by 255."
            )
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if x.shape[2:] != (self.size, self.size):
            shrinks = min(x.shape[2:]) > self.size  # without antialias a shrunk image would skip pixels
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", align_corners=False, antialias=shrinks)
            x = x.clamp(0, 1)  # bicubic overshoots at edges
        return (2 * x - 1).contiguous(memory_format=torch.channels_last)


def _as_images(X, image_shape):
    X = np.asarray(X)
    if X.dtype.kind not in "fiub":
        raise InvalidInput(f"`X` has dtype {X.dtype}; expected images in [0, 1].")
    if X.ndim == 2:
        if image_shape is None:
            raise InvalidInput("`X` holds rows. Pass `image_shape=(channels, height, width)`.")
        if int(np.prod(image_shape)) != X.shape[1]:
            raise InvalidInput(f"`image_shape={tuple(image_shape)}` does not fit rows of {X.shape[1]} values.")
        X = X.reshape(len(X), *image_shape)
    if X.ndim != 4 or X.shape[1] not in (1, 3) or len(X) == 0:
        raise InvalidInput(f"`X` has shape {X.shape}; expected (n, 3, H, W) or (n, 1, H, W) with n >= 1.")
    return X
