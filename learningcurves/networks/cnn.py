"""A small convolutional network with one linear head, for digits and small colour images."""

from torch import nn

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput


class SmallCNN(nn.Module):
    """Three blocks of convolution, batch norm and ReLU, the mean over space, and one linear head.

    Parameters
    ----------
    in_shape : tuple (C, H, W)
        Shape of an image; H and W at least 4.
    n_classes : int
        Number of outputs.
    width : int, default=32
        Channels of the first block; the second and third have twice and four times as many, each at half the
        resolution (stride 2).

    Notes
    -----
    Input (n, C, H, W), output (n, n_classes), features entering the head (n, 4 * width). With width 32 and
    10 classes: about 94,000 parameters.
    """

    def __init__(self, in_shape, n_classes: int, width: int = 32):
        super().__init__()
        if not isinstance(in_shape, tuple | list) or len(in_shape) != 3 or min(in_shape) < 1 or min(in_shape[1:]) < 4:
            raise InvalidInput(f"`in_shape={in_shape!r}` is not (channels, height, width) with sides of at least 4.")
        check_integer(n_classes, "n_classes", low=1)
        check_integer(width, "width", low=1)
        self.in_shape = tuple(int(side) for side in in_shape)
        channels = (self.in_shape[0], width, 2 * width, 4 * width)
        self.blocks = nn.Sequential(*(_block(channels[i], channels[i + 1], 1 if i == 0 else 2) for i in range(3)))
        self.head = nn.Linear(channels[-1], n_classes)

    def forward(self, images):
        """Return the outputs (logits) of a batch of images."""
        return self.head(self.blocks(images).mean(dim=(2, 3)))


def _block(n_in, n_out, stride):
    # no bias: batch norm would take it away again
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())
