"""Networks: small architectures, frozen features, beta-weighted training and its learning curves (extra `torch`)."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise  # torch is there, but something that it needs is not
    raise ModuleNotFoundError(
        "`learningcurves.networks` needs PyTorch. Install it with: pip install learningcurves[torch]", name="torch"
    ) from error

from learningcurves.networks.augment import FlipAndShift
from learningcurves.networks.cache import FeatureExtractor
from learningcurves.networks.cnn import SmallCNN
from learningcurves.networks.curve import train_curve
from learningcurves.networks.features import Features, extract_features
from learningcurves.networks.head import Head, find_head
from learningcurves.networks.losses import BCE, MSE, CrossEntropy
from learningcurves.networks.mobilenet import MobileNetV2, MobileNetV2Features
from learningcurves.networks.parts import NetworkData, as_network_data
from learningcurves.networks.resnet import ResNet18
from learningcurves.networks.scores import evaluate
from learningcurves.networks.train import Training, train
from learningcurves.networks.trained_curve import TrainedCurve
from learningcurves.networks.weights import load_weights, save_weights

__all__ = [
    "BCE",
    "MSE",
    "CrossEntropy",
    "FeatureExtractor",
    "Features",
    "FlipAndShift",
    "Head",
    "MobileNetV2",
    "MobileNetV2Features",
    "NetworkData",
    "ResNet18",
    "SmallCNN",
    "TrainedCurve",
    "Training",
    "as_network_data",
    "evaluate",
    "extract_features",
    "find_head",
    "load_weights",
    "save_weights",
    "train",
    "train_curve",
]
