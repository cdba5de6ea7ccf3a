"""Random changes of training images, drawn from a generator of their own."""

import torch
import torch.nn.functional as F

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput


class FlipAndShift:
    """Flip images left-right with probability 1/2 and shift them by up to `pixels` a side, padding with zeros.

    A trigger in a corner can be shifted out of the image or flipped to the other side: augmentation is applied to clean
    and backdoor samples alike, as in ordinary training on poisoned data.
    """

    def __init__(self, pixels: int = 4, flip: bool = True):
        self.pixels = check_integer(pixels, "pixels", low=0)
        self.flip = bool(flip)

    def __repr__(self):
        return f"FlipAndShift(pixels={self.pixels}, flip={self.flip})"

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return changed images of the same shape (n, C, H, W)."""
        if images.ndim != 4:
            raise InvalidInput(f"`augment` got samples of shape {tuple(images.shape)}; expected images (n, C, H, W).")
        n, _, height, width = images.shape
        if self.flip:
            flipped = torch.rand(n, generator=generator) < 0.5
            images = torch.where(flipped.view(-1, 1, 1, 1).to(images.device), images.flip(3), images)
        if self.pixels:
            shift = torch.randint(0, 2 * self.pixels + 1, (2, n, 1), generator=generator).to(images.device)
            padded = F.pad(images, [self.pixels] * 4)
            rows = shift[0] + torch.arange(height, device=images.device)
            columns = shift[1] + torch.arange(width, device=images.device)
            sample = torch.arange(n, device=images.device).view(-1, 1, 1)
            images = padded[sample, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2).contiguous()
        return images
