"""The convolutional network of the semantic-loss experiments: three convolutions and three linear layers."""

from torch import nn

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput


class AttributeCNN(nn.Module):
    """Conv 3-32-64-128 (3x3, each with ReLU and max pooling by 2), then linear 1024, 512 and one logit an attribute.

    Parameters
    ----------
    size : int
        Side of the images; at least 8. At 64 the network has 9,028,200 parameters for 40 attributes.
    n_attributes : int, default=40
        Number of outputs.
    width : int, default=32
        Channels of the first convolution; all other layers scale with it.

    Notes
    -----
    Input (n, 3, size, size), output (n, n_attributes) logits, features entering the head (n, 16 * width).
    """

    def __init__(self, size: int, n_attributes: int = 40, width: int = 32):
        super().__init__()
        check_integer(size, "size", low=8, hint="It is the side of the images; three poolings halve it.")
        check_integer(n_attributes, "n_attributes", low=1)
        check_integer(width, "width", low=1)
        self.size = size
        channels = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for n_in, n_out in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*layers)
        flat = channels[-1] * (size // 8) ** 2
        self.hidden = nn.Sequential(
            nn.Linear(flat, 32 * width), nn.ReLU(), nn.Linear(32 * width, 16 * width), nn.ReLU()
        )
        self.head = nn.Linear(16 * width, n_attributes)

    def forward(self, images):
        """Return the logits of a batch of images."""
        if tuple(images.shape[1:]) != (3, self.size, self.size):
            raise InvalidInput(
                f"the images have shape {tuple(images.shape[1:])}; this network takes (3, {self.size}, {self.size})."
            )
        return self.head(self.hidden(self.convolutions(images).flatten(1)))
