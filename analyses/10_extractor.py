"""Are the frozen features those of the network that its weights promise, and what costs its accuracy on our pictures?"""

# %% Question
from contextlib import contextmanager

import numpy as np
import pandas as pd
import study

QUESTION = __doc__
CLASSES = ("tench", "cassette player", "church", "french horn", "garbage truck", "parachute")
IMAGENET = (0, 482, 497, 566, 569, 701)  # their places among ImageNet's 1000
N = 60  # validation pictures a class
SIDE = 112  # of the stored pictures; the network was trained at 224


# %% Variants: the extractor as it is, other ways to enlarge, and mistakes that it might have made
def enlarged(images, side, mode="bicubic", **options):
    import torch.nn.functional as F

    shrinks = side < images.shape[-1]
    return F.interpolate(images, (side, side), mode=mode, antialias=shrinks, **options).clamp(0, 1)


def variants(images):
    """Yield (name, what it is, images in [0, 1])."""
    large = enlarged(images, 224)
    yield "as it is", "bicubic to 224, x / 127.5 - 1", large
    yield "as it is, 160", "bicubic to 160", enlarged(images, 160)
    yield "as it is, 128", "bicubic to 128, the side of the study", enlarged(images, 128)
    yield "enlarging", "bilinear", enlarged(images, 224, "bilinear", align_corners=False)
    yield "enlarging", "bilinear, corners aligned", enlarged(images, 224, "bilinear", align_corners=True)
    yield "enlarging", "middle 98 x 98 pixels, bicubic", enlarged(images[:, :, 7:105, 7:105], 224)
    yield "mistake", "blue and red exchanged", large.flip(1)
    yield "mistake", "x / 255 instead of x / 127.5 - 1", (large + 1) / 2
    yield "mistake", "stride 2 padded left and above", large
    yield "mistake", "ReLU instead of ReLU6", large
    yield "detail lost", "halved once more before: 56, then 224", enlarged(enlarged(images, 56), 224)


@contextmanager
def made(mistake):
    """Make the network wrong for a while."""
    import torch.nn.functional as F
    from torch import nn

    from learningcurves.networks.mobilenet import SameConv

    right = SameConv.forward

    def forward(layer, x):
        pads = (1, 0, 1, 0) if mistake == "stride 2 padded left and above" else (0, 1, 0, 1)
        x = nn.Conv2d.forward(layer, F.pad(x, pads) if layer.pads_after else x)
        if not layer.activation:
            return x
        return F.relu(x) if mistake == "ReLU instead of ReLU6" else F.relu6(x)

    SameConv.forward = forward
    try:
        yield
    finally:
        SameConv.forward = right


def pictures(n):
    """Return the first validation pictures of each class as a tensor, and their ImageNet numbers (background is 0)."""
    import torch

    from learningcurves.data.files import load_imagenette

    data = load_imagenette(CLASSES, n_train=len(CLASSES), n_test=n * len(CLASSES), size=SIDE)
    images = data.X_test.reshape(-1, *data.image_shape)
    return torch.from_numpy(images.astype(np.float32)), np.array(IMAGENET)[data.y_test] + 1


def scores(network, images, labels):
    """Return for each picture whether it is right, whether among five, and its loss in nats."""
    import torch

    with torch.inference_mode():
        parts = [network(2 * images[i : i + 20] - 1).log_softmax(1).numpy() for i in range(0, len(images), 20)]
    logs = np.concatenate(parts)
    order = np.argsort(-logs, axis=1)[:, :5] == labels[:, None]
    return order[:, 0].astype(float), order.any(axis=1).astype(float), -logs[np.arange(len(labels)), labels]


# %% Run, table, finding
if __name__ == "__main__":
    options = study.arguments(QUESTION, "10", data=("imagenette",))
    from learningcurves.networks.mobilenet import MobileNetV2Features

    network = MobileNetV2Features(study.weights_file(), size=224).network
    images, labels = pictures(2 if options.small else N)
    rows, base, n = [], None, len(labels)
    for name, what, X in variants(images):
        with made(what):
            right, among, loss = scores(network, X, labels)
        base = loss if base is None else base
        row = {"variant": name, "what": what, "n": n, "top1": right.mean(), "top1_error": right.std() / np.sqrt(n)}
        # picture by picture against the first variant: far sharper than a difference of accuracies
        row |= {"top5": among.mean(), "loss": loss.mean(), "loss_more": (loss - base).mean()}
        rows.append(row | {"loss_more_error": (loss - base).std() / np.sqrt(n)})
    table = pd.DataFrame(rows)
    study.write_table(table, options.tables, "extractor", digits=3)
    print(table.to_string())
    study.finish(options)
