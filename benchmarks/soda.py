"""Causal attribution of SODA: the closed form against the loop over interventions, and the null of its index.

    python benchmarks/soda.py                      # 512 neurons x 43 classes, 192 clean samples a class
    python benchmarks/soda.py --neurons 64 --classes 10 --samples 256
    python benchmarks/soda.py --null               # how often the one-sided rule flags a network without a backdoor

Both sides get the same features and head. The loop is that of the published code: for every class, batch of 64 samples and
neuron, change the neuron and run the head. "batched" is this package's fallback for layers without a closed form, put to the
same head. Every side runs in a process of its own; times leave out imports and data.
"""

import argparse
import tempfile
from pathlib import Path

import measure
import numpy as np

SIDES = ("loop", "batched", "closed form", "closed form a=0.5", "detect_soda")


def make(path, n_neurons, n_classes, n_samples):
    """Write features of a ReLU layer, labels and a head."""
    rng = np.random.default_rng(0)
    h = np.maximum(rng.normal(size=(n_classes * n_samples, n_neurons)), 0).astype(np.float32)
    W = (rng.normal(size=(n_classes, n_neurons)) / np.sqrt(n_neurons)).astype(np.float32)
    np.savez(path, h=h, y=np.repeat(np.arange(n_classes), n_samples), W=W)


def by_loop(network, h, y, n_classes, batch=64):
    """Attribution by changing one neuron after the other, as published: a = b = 1, |.| inside the mean."""
    import torch

    found = torch.zeros(n_classes, h.shape[1], n_classes)
    with torch.no_grad():
        for j in range(n_classes):
            chunks = torch.from_numpy(h[y == j]).split(batch)
            for chunk in chunks:
                plain = network(chunk)
                for i in range(h.shape[1]):
                    changed = chunk.clone()
                    changed[:, i] += 1.0
                    found[j, i] += (network(changed) - plain).abs().sum(0)
            found[j] /= sum(map(len, chunks))
    return found.numpy()


def child(path, side):
    import torch
    from torch import nn

    import learningcurves as lc
    from learningcurves.defences.clean_samples import clean_samples
    from learningcurves.defences.soda_attribution import causal_attribution
    from learningcurves.defences.tail import make_tail

    torch.set_num_threads(1)
    data = dict(np.load(path))
    h, y, W = data["h"], data["y"], data["W"]
    network = nn.Sequential(nn.Identity(), nn.Linear(W.shape[1], W.shape[0], bias=False)).eval()
    with torch.no_grad():
        network[1].weight.copy_(torch.from_numpy(W))
    samples = clean_samples(network, (h, y))
    tail = make_tail(network, samples.X)
    classes, clock, before = range(len(W)), measure.Clock(), measure.peak_memory()
    repeats = 1 if side in ("loop", "batched") else 5
    times = []
    for _ in range(repeats):
        clock = measure.Clock()
        with clock.timed("attribution"):
            if side == "loop":
                values = by_loop(network, h, y, len(W))
            elif side == "detect_soda":
                values = lc.detect_soda(network, (h, y)).attribution
            else:
                force = "intervention" if side == "batched" else None
                a = 0.5 if side.endswith("a=0.5") else 1.0
                values = causal_attribution(tail, samples, classes, a=a, effect="absolute", force=force).values
        times.append(clock)
    clock = min(times, key=lambda c: c.parts["attribution"]["cpu"])
    error = float("nan") if side.endswith("a=0.5") else float(np.abs(values - np.abs(W.T)).max())
    measure.report(clock, error=error, before=before)


def compare(args):
    rows, loop = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        make(path, args.neurons, args.classes, args.samples)
        for side in SIDES:
            found = measure.run(__file__, [path, side], threads=1, timeout=args.timeout)
            cpu = found["parts"]["attribution"]["cpu"]
            loop = cpu if side == "loop" else loop
            memory = found["peak"] - found["before"]
            rows.append([side, f"{cpu:.4g}", f"{loop / cpu:.3g}", f"{memory:.0f}", f"{found['error']:.1e}"])
            print(*rows[-1], sep=" | ", flush=True)
    print(
        f"{args.neurons} neurons, {args.classes} classes, {args.samples} samples a class; {measure.machine()}; 1 thread"
    )
    print(measure.table(["side", "CPU s", "loop / side", "MiB beyond the data", "largest error"], rows))


def null():
    """Share of networks without any special class that the rule flags, and the thresholds for given shares."""
    from learningcurves.defences.soda_index import false_positive_rate, null_threshold

    rows = [
        [
            K,
            *(f"{false_positive_rate(K, t):.3f}" for t in (2, 3, 3.5, 5)),
            *(f"{null_threshold(K, p):.2f}" for p in (0.05, 0.01)),
        ]
        for K in (5, 10, 20, 29, 43, 101)
    ]
    print(measure.table(["classes", "flagged at 2", "at 3", "at 3.5", "at 5", "threshold for 5 %", "for 1 %"], rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, default=512)
    parser.add_argument("--classes", type=int, default=43)
    parser.add_argument("--samples", type=int, default=192, help="a class")
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--null", action="store_true", help="the table of false positives instead")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(*args.child)
    if args.null:
        return null()
    compare(args)


if __name__ == "__main__":
    main()
