"""Features of the four sample sets that enter a network's head, and the head as it was given."""

import numpy as np

from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.features import sample_features
from learningcurves.networks.head import find_head
from learningcurves.networks.parts import named_parts
from learningcurves.networks.runtime import check_module


def head_features(module, data, head, batch_size, threads):
    """Return {part: Features} and the facts of the head: network, name, weight, offset, number of outputs, true labels.

    Where `data` has no test part the triggered one stands in its place, for slopes, which read no clean test sample.
    """
    check_module(module, "model")
    parts = named_parts(data, needed=("clean", "backdoor", "triggered"))
    image_shape = parts.image_shape
    found = find_head(module, _some(parts.sets["clean"], image_shape), head=head)
    if found.tied:
        raise NotSupported(
            f"the head {found.name!r} shares its weights with {', '.join(found.tied)}: moving it would move the features "
            "too, so it is no last layer of its own. Untie it (clone the weight) first."
        )
    options = {"head": found.name, "batch_size": batch_size, "image_shape": image_shape, "threads": threads}
    features = {}
    for name, part in parts.sets.items():
        if isinstance(part, list | tuple) and len(part) == 2 and len(part[0]) == 0:
            features[name] = None
            continue
        features[name] = sample_features(module, part, **options, name=f"X of the {name} part")
        if features[name].y is None:
            raise InvalidInput(f"the {name} part gives no labels; expected pairs (samples, labels).")
    clean = features["clean"]
    for name, value in features.items():
        if value is None:
            features[name] = type(clean)(
                np.empty((0, clean.X.shape[1])), np.asarray(clean.y)[:0], clean.network, clean.head
            )
        elif value.network != clean.network:
            raise InvalidInput("the network changed while its features were read; its weights must stay as they are.")
    features.setdefault("test", features["triggered"])
    linear = found.linear
    facts = {
        "network": clean.network,
        "head": clean.head,
        "bias": linear.bias is not None,
        "weight": linear.weight.detach().double().cpu().numpy(),
        "offset": None if linear.bias is None else linear.bias.detach().double().cpu().numpy(),
        "n_outputs": linear.out_features,
        "y_source": parts.y_source,
    }
    return features, facts


def _some(part, image_shape):
    if isinstance(part, list | tuple) and image_shape is not None:
        X = part[0][:8]
        return np.asarray(X).reshape(len(X), *image_shape)
    return part
