"""ResNet-18, with a stem for small images or for ImageNet-sized ones."""

import torch.nn.functional as F
from torch import nn

from learningcurves.checks import check_choice, check_integer


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the sum with their input, projected where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample = None
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x):
        """Return relu(residual(x) + shortcut(x))."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """Residual network with 18 weighted layers [1]_.

    Parameters
    ----------
    n_classes : int
        Number of outputs.
    width : int, default=64
        Channels of the first of the four stages, which double from stage to stage; 64 is the published network.
    stem : {"cifar", "imagenet"}
        "cifar": one 3x3 convolution at full resolution; "imagenet": 7x7 stride 2 and max pooling.
    in_channels : int, default=3
        Channels of the images.

    Notes
    -----
    Input (n, in_channels, H, W), output (n, n_classes), features entering the head `fc` (n, 8 * width). Parameters are
    named as in torchvision's `resnet18`, so with `stem="imagenet"` such weight files load.

    References
    ----------
    .. [1] He, Zhang, Ren, Sun, Deep residual learning for image recognition, CVPR 2016.
    """

    def __init__(self, n_classes: int, width: int = 64, stem: str = "cifar", *, in_channels: int = 3):
        super().__init__()
        check_integer(n_classes, "n_classes", low=1)
        check_integer(width, "width", low=1)
        check_integer(in_channels, "in_channels", low=1)
        self.stem = check_choice(stem, "stem", ("cifar", "imagenet"))
        kernel, stride = (3, 1) if stem == "cifar" else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        n_in = width
        for stage in range(4):
            n_out = width * 2**stage
            blocks = nn.Sequential(BasicBlock(n_in, n_out, 1 if stage == 0 else 2), BasicBlock(n_out, n_out, 1))
            self.add_module(f"layer{stage + 1}", blocks)
            n_in = n_out
        self.fc = nn.Linear(n_in, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images):
        """Return the outputs (logits) of a batch of images."""
        x = F.relu(self.bn1(self.conv1(images)))
        if self.stem == "imagenet":
            x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(x.mean(dim=(2, 3)))
