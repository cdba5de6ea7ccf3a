"""Options that several verbs share, and what they stand for: the data, the trigger, the problem, the learner."""

import argparse
from typing import Any

from learningcurves.errors import InvalidInput

DATA, SIZE, FRACTION, REG = "digits:7-1", 3, 0.1, 1.0

# name on the command line -> (options of the trigger, what --strength is called there)
TRIGGERS = {
    "random-patch": ("random_patch", "alpha"),
    "solid-patch": ("solid_patch", "alpha"),
    "invisible": ("invisible", "strength"),
    "blend": ("blend", "alpha"),
    "badnets": ("badnets", "alpha"),
    "checkerboard": ("checkerboard", "alpha"),
    "sinusoid": ("sinusoid", "amplitude"),
}
LEARNERS = ("logistic", "ridge", "linear-svm", "squared-hinge-svm", "rbf-svm", "softmax")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides the backdoor problem."""
    group = parser.add_argument_group("data and backdoor")
    group.add_argument(
        "--data",
        default=DATA,
        help="digits:7-1, mnist:7-1, mnist_m:7-1, cifar10:airplane-frog, gtsrb:stop-yield, synthetic:3 or npz:PATH, a file "
        f"with the arrays of a BackdoorProblem or Dataset (default: {DATA})",
    )
    group.add_argument("--root", help="data folder, for image sets on disk (default: $LEARNINGCURVES_DATA)")
    group.add_argument("--n-train", type=int, help="number of training samples")
    group.add_argument("--fraction", type=float, help=f"share of the samples to poison (default: {FRACTION})")
    group.add_argument("--trigger", choices=TRIGGERS, help="what is stamped (default: random-patch)")
    group.add_argument("--size", type=int, help=f"side of a patch in pixels (default: {SIZE})")
    group.add_argument(
        "--strength",
        type=float,
        help="invisible, sinusoid: share of the value range that is added; else alpha, 1 is opaque",
    )
    group.add_argument("--labels", help="the class that all triggered samples become, or next (default: next)")
    group.add_argument("--mode", choices=("replace", "add"), help="poisoned samples replace clean ones, or are added")
    group.add_argument("--seed", type=int, help="root of every random draw (default: 0)")
    group.add_argument("--draw", choices=("paper",), help="the draws released with the paper (MNIST, CIFAR-10)")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides the learner."""
    group = parser.add_argument_group("learner")
    group.add_argument("--learner", choices=LEARNERS, help="default: logistic for two classes, softmax for more")
    group.add_argument(
        "--reg", type=float, nargs="+", help=f"lambda, one or several; C = 1/lambda in scikit-learn (default: {REG:g})"
    )
    group.add_argument("--gamma", help="width of the RBF kernel: a number, scale or auto (default: scale)")
    group.add_argument(
        "--penalize-intercept",
        action=argparse.BooleanOptionalAction,
        help="whether lambda acts on the intercept too (default: the learner's own convention)",
    )
    group.add_argument("--model", metavar="FILE.skops", help="a fitted scikit-learn estimator in place of --learner")
    group.add_argument("--refine", action="store_true", help="solve to the optimum, starting from the given model")


def make_problem(args) -> Any:
    """Return the BackdoorProblem that the options describe."""
    from learningcurves.data.arrays import load_dataset
    from learningcurves.data.problem import BackdoorProblem
    from learningcurves.poisoning.backdoor import poison

    trigger = make_trigger(args)
    data = load_dataset(args.data, root=args.root, n_train=args.n_train, seed=args.seed, draw=args.draw)
    if isinstance(data, BackdoorProblem):
        names = ("fraction", "trigger", "size", "strength", "labels", "mode", "draw", "seed")
        given = [name for name in names if getattr(args, name) is not None]
        if given:
            raise InvalidInput(
                f"`--{given[0]}` makes a backdoor, and {args.data!r} already holds one (it has X_backdoor). Leave the "
                "option out, or give a file with X_train, y_train, X_test, y_test."
            )
        return data
    draw = {"draw": args.draw} if args.draw else {}
    fraction = FRACTION if args.fraction is None else args.fraction
    labels = _as_class(args.labels or "next", data.classes)
    return poison(data, trigger, fraction, seed=args.seed or 0, mode=args.mode or "replace", labels=labels, **draw)


def _as_class(word, classes):
    """Return the class that a word on the command line means, as the data have it; other words as they are."""
    return next((label for label in classes.tolist() if str(label) == word), word)


def make_trigger(args) -> Any:
    """Return the trigger; an option that it does not have is an error."""
    from learningcurves.poisoning.triggers import make_trigger as by_name

    name = args.trigger or "random-patch"
    kind, strength = TRIGGERS[name]
    options: dict[str, Any] = {"kind": kind}
    is_patch = name.endswith("-patch")
    if args.size is not None and not is_patch:
        raise InvalidInput(
            f"`--size` is the side of a random or solid patch; the trigger {name} has none. Leave it out."
        )
    if is_patch:
        options["size"] = SIZE if args.size is None else args.size
    if args.strength is not None:
        options[strength] = args.strength
    if name in ("random-patch", "blend"):
        options["seed"] = args.seed or 0
    if name == "random-patch" and args.draw:
        options["draw"] = args.draw
    return by_name(options)


def make_model(args, problem) -> Any:
    """Return the learner, or the fitted estimator of `--model`."""
    for reg in args.reg or ():
        if args.reg.count(reg) > 1:
            raise InvalidInput(f"`--reg` holds {reg:g} twice. Leave one out.")
    if args.model is not None:
        for name in ("learner", "gamma", "penalize_intercept"):
            if getattr(args, name) is not None:
                option = "--" + name.replace("_", "-")
                raise InvalidInput(f"`{option}` and `--model` exclude each other: the file holds its own settings.")
        from learningcurves.learners.skops_file import load_estimator

        return load_estimator(args.model)
    from learningcurves.learners import learners as L

    name = args.learner or ("logistic" if len(problem.classes) == 2 else "softmax")
    options: dict[str, Any] = {"reg": REG if args.reg is None else args.reg[0]}
    if args.penalize_intercept is not None:
        options["penalize_intercept"] = args.penalize_intercept
    if args.gamma is not None:
        if name != "rbf-svm":
            raise InvalidInput(f"`--gamma` is the width of the RBF kernel; {name} has none. Use --learner rbf-svm.")
        options["gamma"] = _gamma(args.gamma)
    if name == "squared-hinge-svm":
        options["loss"] = "squared_hinge"
    makers = {
        "logistic": L.Logistic,
        "ridge": L.Ridge,
        "linear-svm": L.LinearSVM,
        "squared-hinge-svm": L.LinearSVM,
        "rbf-svm": L.KernelSVM,
        "softmax": L.Softmax,
    }
    return makers[name](**options)


def _gamma(text):
    if text in ("scale", "auto"):
        return text
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"`--gamma {text}` is not a number, 'scale' or 'auto'.") from None


def describe(problem, args) -> list[str]:
    """Return the lines that say what is attacked, and how."""
    facts = problem.provenance
    lines = [
        f"data     {args.data}: {problem.n_clean} clean and {problem.n_backdoor} backdoor training samples, "
        f"{problem.X_triggered.shape[0]} triggered test samples, {problem.n_features} features"
    ]
    if "trigger_name" in facts:
        lines.append(f"trigger  {facts['trigger_name']}, {facts['fraction_of_all']:.1%} of the samples poisoned")
    return lines
