"""Features of the four sample sets that enter a network's head, and the head as it was given."""

from collections.abc import Mapping

import numpy as np

from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.batches import PARTS
from learningcurves.networks.features import sample_features
from learningcurves.networks.head import find_head
from learningcurves.networks.runtime import check_module


def head_features(module, data, head, batch_size, threads):
    """Return {part: Features} and the facts of the head: network, name, weight, offset, number of outputs."""
    check_module(module, "model")
    parts, image_shape = _named_parts(data)
    first = parts["clean"]
    found = find_head(module, _some(first, image_shape), head=head)
    if found.tied:
        raise NotSupported(
            f"the head {found.name!r} shares its weights with {', '.join(found.tied)}: moving it would move the features "
            "too, so it is no last layer of its own. Untie it (clone the weight) first."
        )
    options = {"head": found.name, "batch_size": batch_size, "image_shape": image_shape, "threads": threads}
    features = {}
    for name, part in parts.items():
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
    linear = found.linear
    facts = {
        "network": clean.network,
        "head": clean.head,
        "bias": linear.bias is not None,
        "weight": linear.weight.detach().double().cpu().numpy(),
        "offset": None if linear.bias is None else linear.bias.detach().double().cpu().numpy(),
        "n_outputs": linear.out_features,
    }
    return features, facts


def _named_parts(data):
    """Return {part: samples} with all four parts, and the shape of the images behind rows."""
    if isinstance(data, BackdoorProblem):
        parts = {p: (getattr(data, f"X_{p}"), getattr(data, f"y_{p}")) for p in PARTS}
        image_shape = data.image_shape
    else:
        image_shape = None
        if isinstance(data, Mapping):
            unknown = set(data) - {*PARTS, "y_source"}
            if unknown:
                raise InvalidInput(
                    f"`problem` has the unknown part {sorted(unknown)[0]!r}; parts are {', '.join(PARTS)}."
                )
            parts = {p: data[p] for p in PARTS if data.get(p) is not None}
        elif isinstance(data, list | tuple) and 3 <= len(data) <= 4:
            names = PARTS if len(data) == 4 else ("clean", "backdoor", "triggered")
            parts = dict(zip(names, data, strict=True))
        else:
            raise NotSupported(
                f"`problem` is a {type(data).__name__}; expected a BackdoorProblem or the parts ({', '.join(PARTS)}) as "
                "(X, y) pairs, torch data sets or loaders."
            )
        missing = {"clean", "backdoor", "triggered"} - set(parts)
        if missing:
            raise InvalidInput(f"`problem` lacks the {sorted(missing)[0]} part.")
    parts.setdefault("test", parts["triggered"])
    return parts, image_shape


def _some(part, image_shape):
    if isinstance(part, list | tuple) and image_shape is not None:
        X = part[0][:8]
        return np.asarray(X).reshape(len(X), *image_shape)
    return part
