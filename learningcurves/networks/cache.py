"""Frozen features of a whole problem, computed once and read from disk afterwards."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from torch import nn

from learningcurves.checks import check_choice, check_integer
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.features import replace_samples, sample_features
from learningcurves.networks.mobilenet import MobileNetV2Features
from learningcurves.networks.weights import weights_digest
from learningcurves.storage import load_json, save_json


class FeatureExtractor:
    """A frozen network that turns images into features, with a cache on disk.

    Parameters
    ----------
    network : {"mobilenet_v2"} or torch.nn.Module
        The named extractor, or any module with a linear head, whose head's input are the features.
    weights : path, optional
        Weight file of a named extractor (a module brings its own).
    size : int, default=128
        Side to which the named extractor resizes the images; a module sees them as they are.
    head : str, optional
        Name of a module's head, where it is not the module's output.
    chunk : int, default=512
        Images whose features are held in memory before they are written.
    batch_size, threads : int
        Images in one pass and torch threads.

    Notes
    -----
    A cached file's name is the SHA-256 of the extractor's name, its weights' SHA-256, the preprocessing, and the shape
    and SHA-256 of the images; a file is written whole or not at all, with the facts as JSON beside it.
    """

    def __init__(
        self, network, weights=None, size: int = 128, *, head=None, chunk=512, batch_size=32, threads: int | None = 1
    ):
        self.chunk = check_integer(chunk, "chunk", low=1)
        if isinstance(network, nn.Module):
            if weights is not None:
                raise InvalidInput(
                    "`weights` belongs to a named extractor; load them with `load_weights(module, path)`."
                )
            self._module, self._head, self._batch_size, self._threads = network, head, batch_size, threads
            name = f"{type(network).__module__}.{type(network).__qualname__}"
            self.facts = {"extractor": name, "weights_sha256": weights_digest(network), "preprocessing": "none"}
            # two architectures can share their weights' names and shapes: the printed structure tells them apart
            self.facts["structure_sha256"] = hashlib.sha256(repr(network).encode()).hexdigest()
            self.facts["head"] = head or ""
            self._features = self._module_features
        else:
            check_choice(network, "network", ("mobilenet_v2",))
            if weights is None:
                raise InvalidInput(f"`weights` is missing: pass the weight file of {network!r} (.safetensors).")
            extractor = MobileNetV2Features(weights, size=size, batch_size=batch_size, threads=threads)
            self.facts, self._features = extractor.facts, extractor.features

    @property
    def name(self) -> str:
        """Name of the network, which travels with the features."""
        return self.facts["extractor"]

    def transform(self, X, image_shape=None, *, cache=None) -> np.ndarray:
        """Return the features of images, shape (n, d).

        Parameters
        ----------
        X : array of shape (n, C, H, W), or rows with `image_shape`
            Images in [0, 1].
        cache : folder, optional
            With it the result is a read-only memory map of a file in that folder, made now if it is not there yet.
        """
        if sp.issparse(X):
            raise NotSupported("`X` is sparse, which networks do not take. Pass `X.toarray()`.")
        X = np.asarray(X)
        if X.shape[0] == 0:
            raise InvalidInput("`X` holds no images.")
        if cache is None:
            return np.concatenate(list(self._chunks(X, image_shape)))
        facts = {**self.facts, "input": _input_facts(X, image_shape)}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        path = Path(cache) / f"{key[:40]}.npy"
        if path.exists() and path.with_suffix(".json").exists():
            try:
                found = np.load(path, mmap_mode="r", allow_pickle=False)
                if load_json(path.with_suffix(".json")) == facts and found.ndim == 2 and len(found) == len(X):
                    return found
            except (ValueError, EOFError, InvalidInput):
                pass  # a damaged file is made again
        _write_rows(path, self._chunks(X, image_shape), len(X))
        save_json(path.with_suffix(".json"), facts)
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def transform_problem(self, problem, *, cache=None):
        """Return a `Dataset` or `BackdoorProblem` with features for samples, and this extractor in its provenance.

        The features are held as float64 in memory there, as all samples of such objects are; `transform` alone gives
        the memory map.
        """
        if isinstance(problem, Dataset):
            parts = ("train", "test")
        elif isinstance(problem, BackdoorProblem):
            parts = ("clean", "backdoor", "test", "triggered")
        else:
            raise NotSupported(f"`problem` is a {type(problem).__name__}; expected a Dataset or BackdoorProblem.")
        if problem.image_shape is None:
            raise InvalidInput("`problem` has no `image_shape`: its samples are not known to be images.")
        arrays = {}
        for part in parts:
            X = getattr(problem, f"X_{part}")
            # only the backdoor part may be empty, and it comes after the clean one
            empty = X.shape[0] == 0
            n_features = arrays["clean"].shape[1] if empty else 0
            arrays[part] = np.empty((0, n_features)) if empty else self.transform(X, problem.image_shape, cache=cache)
        return replace_samples(problem, arrays, dict(self.facts))

    def _module_features(self, X, image_shape):
        options = {"batch_size": self._batch_size, "image_shape": image_shape, "threads": self._threads}
        return sample_features(self._module, X, head=self._head, **options).X

    def _chunks(self, X, image_shape):
        for start in range(0, len(X), self.chunk):
            yield self._features(X[start : start + self.chunk], image_shape)


def _input_facts(X, image_shape):
    contiguous = np.ascontiguousarray(X)
    return {
        "dtype": str(X.dtype),
        "shape": [int(side) for side in X.shape],
        "image_shape": None if image_shape is None else [int(side) for side in image_shape],
        "sha256": hashlib.sha256(contiguous.reshape(-1).view(np.uint8).data).hexdigest(),
    }


def _write_rows(path, chunks, n_rows):
    """Write chunks of rows as one .npy file, without holding all of them, through a temporary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:8]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            # plain writes rather than a writable memory map, which a full disk ends with a crash, not an error
            for i, chunk in enumerate(chunks):
                chunk = np.ascontiguousarray(chunk)
                if i == 0:
                    descr = np.lib.format.dtype_to_descr(chunk.dtype)
                    header = {"descr": descr, "fortran_order": False, "shape": (n_rows, chunk.shape[1])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(chunk.data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
