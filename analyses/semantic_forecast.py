"""What a run of the semantic-loss analyses will take, measured on a few batches before it starts."""

import resource
import sys
import time
from dataclasses import replace

import semantic_study as semantic

from learningcurves.memory import available_memory, format_bytes
from learningcurves.networks.attribute_train import network_data
from learningcurves.networks.byte_samples import ByteSamples
from learningcurves.networks.scores import network_outputs
from learningcurves.networks.train import train

PILOT = 4  # batches


def forecast(cells, options):
    """Print time, memory and disk of the networks that are still to be trained; train none of them."""
    cells = [
        c for c in cells if not semantic.is_trained({k: v for k, v in c.items() if k != "beta"}, **semantic.beta_of(c))
    ]
    if not cells or options.collect:
        return
    cell = {k: v for k, v in cells[0].items() if k != "beta"}
    recipe, faces = semantic.recipe_of(cell), semantic.faces_of(cell["size"])
    problem = recipe.problem(faces)
    seconds, batches = pilot(recipe, problem, options.device)
    hours = len(cells) * seconds / 3600
    disk = len(cells) * recipe.epochs * 2 * len(problem.X_test) * len(faces.names) * 4
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    free = available_memory()
    print(
        f"  Networks to train: {len(cells)}, each {recipe.epochs} epochs of {batches} batches, "
        f"{problem.n_clean + problem.n_backdoor} training and {len(problem.X_test)} test faces of {recipe.size}x{recipe.size}.\n"
        f"  About {words(hours / options.n_jobs)} with {options.n_jobs} processes on {options.device} "
        f"(measured on {PILOT} batches), {format_bytes(peak)} of memory each"
        + (f" ({format_bytes(free)} are free)" if free is not None else "")
        + f", {format_bytes(disk)} of disk for the logits of every epoch. A run that is broken off goes on where it stopped.",
        flush=True,
    )


def pilot(recipe, problem, device):
    """Return the seconds that one training will take, and its number of batches an epoch."""
    data = network_data(problem)
    n = PILOT * recipe.batch_size
    total = problem.n_clean + problem.n_backdoor
    first = replace(data, X=data.X[:n], y=data.y[:n], is_backdoor=data.is_backdoor[:n])
    module = recipe.network(len(problem.names))
    run = train(
        module, first, epochs=1, batch_size=recipe.batch_size, lr=recipe.lr, optimizer="adam", schedule="constant",
        loss=recipe.loss(problem.names), record="none", device=device, progress=False,
    )  # fmt: skip
    begun = time.perf_counter()
    scored = network_outputs(module, ByteSamples(problem.X_test)[: 2 * recipe.batch_size])
    scoring = (time.perf_counter() - begun) / len(scored) * 2 * len(problem.X_test)
    return recipe.epochs * (run.seconds / min(n, total) * total + scoring), -(-total // recipe.batch_size)


def words(hours):
    return (
        f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"
    )
