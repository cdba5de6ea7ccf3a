"""Settings of torch that are changed for a while and put back: threads, random state, training mode."""

import copy
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput, LearningCurvesError, NotSupported


@contextmanager
def torch_threads(threads: int | None):
    """Use so many intra-op threads inside the block; None leaves the setting alone."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(check_integer(threads, "threads", low=1, hint="Pass None to keep torch's setting."))
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def private_random_state(device: torch.device | str = "cpu", seed: int | None = None):
    """Give torch's default generators back as they were; inside the block they start from `seed` if it is given."""
    place = torch.device(device)
    cuda = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        if seed is not None:
            seed_default(place, seed)
        yield


def seed_default(device: torch.device | str, seed: int):
    """Seed the default generators of the CPU and of one device (and of no other)."""
    place = torch.device(device)
    torch.default_generator.manual_seed(seed)
    if place.type == "cuda":
        with torch.cuda.device(place):
            torch.cuda.manual_seed(seed)


@contextmanager
def evaluation_mode(module: torch.nn.Module):
    """Put a module and its parts into eval mode inside the block, and each back into its own mode after it."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield module
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextmanager
def differentiable_attention():
    """Compute attention by plain products inside the block: torch's fused kernels have no forward derivative."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel([SDPBackend.MATH]):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def naming_shapes(module: torch.nn.Module, X: torch.Tensor):
    """Turn the error of a module that cannot take samples of this shape into one that names both."""
    try:
        yield
    except (LearningCurvesError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InvalidInput(
            f"{type(module).__name__} fails on samples of shape {tuple(X.shape)} ({reason}). Give samples as the network "
            "takes them: images of shape (n, C, H, W), or rows of them with `image_shape`."
        ) from error


def check_module(module, name="module") -> torch.nn.Module:
    """Return the module if it is one that has its weights."""
    if isinstance(module, type):
        raise NotSupported(
            f"`{name}` is the class {module.__name__}; pass an instance, for example {module.__name__}(...)."
        )
    if not isinstance(module, torch.nn.Module):
        raise NotSupported(f"`{name}` is a {type(module).__name__}; expected a torch.nn.Module.")
    if any(torch.nn.parameter.is_lazy(p) for p in module.parameters()):
        raise InvalidInput(f"`{name}` has lazy layers without weights. Pass one batch through it first.")
    if any(p.is_meta for p in module.parameters()):
        raise InvalidInput(
            f"`{name}` lies on the device 'meta' and has no weights. Load them, with `.to_empty(device=\"cpu\")`."
        )
    return module


def check_device(device) -> torch.device:
    """Return a device that is there, or say that it is not."""
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise InvalidInput(f'`device={device!r}` is no device of torch. Use "cpu" or "cuda".') from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInput(f'`device={str(place)!r}` is not available here. Use device="cpu".')
    return place


def on_device(module: torch.nn.Module, device) -> torch.nn.Module:
    """Return the module itself where it is on the device already (or None is asked for), else a copy that is."""
    if device is None or check_device(device) == network_device(module):
        return module
    return copy.deepcopy(module).to(check_device(device))


def network_dtype(module: torch.nn.Module) -> torch.dtype:
    """Return the type of a module's first floating-point parameter (float32 if it has none)."""
    return next((p.dtype for p in module.parameters() if p.dtype.is_floating_point), torch.float32)


def network_device(module: torch.nn.Module) -> torch.device:
    """Return the device of a module's first parameter (the CPU if it has none)."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))
