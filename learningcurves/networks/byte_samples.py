"""Training and test images as bytes, turned into a tensor of numbers batch by batch."""

from collections.abc import Iterator

import torch

from learningcurves.data.pixels import CHUNK, Pixels


class ByteSamples:
    """Stands where a float32 tensor (n, 3, size, size) of samples would, for `train` and `network_outputs`.

    An index or a slice gives a tensor, on the CPU. On another device the samples go there as numbers, once.
    """

    dtype = torch.float32
    ndim = 4

    def __init__(self, pixels: Pixels):
        self.pixels = pixels
        self.shape = torch.Size(pixels.shape)

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index) -> torch.Tensor:
        if torch.is_tensor(index):
            index = index.cpu().numpy()
        return torch.from_numpy(self.pixels[index])

    def split(self, size: int) -> Iterator[torch.Tensor]:
        """Yield the samples in order, `size` at a time."""
        return (self[first : first + size] for first in range(0, len(self), size))

    def to(self, device, non_blocking: bool = False):
        """Return the samples on a device: these on the CPU, a tensor elsewhere."""
        if torch.device(device).type == "cpu":
            return self
        out = torch.empty(self.shape, dtype=self.dtype, device=device)
        for first, chunk in zip(range(0, len(self), CHUNK), self.split(CHUNK), strict=True):
            out[first : first + CHUNK] = chunk.to(device, non_blocking=non_blocking)
        return out
