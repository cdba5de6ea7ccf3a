"""How easily does a model learn a backdoor? Learning curves, slopes and deviation, exact and with certificates.

    import learningcurves as lc

    data = lc.load_digits_pair(7, 1)
    problem = lc.poison(data, lc.RandomPatch(size=2, per_class=True, seed=1), fraction=0.1, seed=1)
    curve = lc.learning_curve(lc.Logistic(reg=10.0), problem)

Names are imported on first use, so that importing the package is quick and never imports torch.
"""

import importlib

__version__ = "0.1.0"

_WHERE = {
    "learningcurves.errors": (
        "ConvergenceWarning", "InvalidInput", "LearningCurvesError", "NotSupported", "SolveFailed", "Status",
    ),
    "learningcurves.data.problem": ("BackdoorProblem", "Dataset"),
    "learningcurves.data.builtin": ("load_digits_classes", "load_digits_pair", "make_synthetic"),
    "learningcurves.data.files": (
        "load_cifar10", "load_cifar10_pair", "load_imagenette", "load_imagenette_pair", "load_mnist", "load_mnist_pair",
    ),
    "learningcurves.data.colour_files": ("load_gtsrb", "load_mnist_m"),
    "learningcurves.data.arrays": ("load_npz", "save_npz"),
    "learningcurves.data.faces": ("Faces", "load_faces"),
    "learningcurves.data.drawn_faces": ("draw_faces", "write_drawn_faces"),
    "learningcurves.data.attributes": ("AttributeProblem", "poison_attributes"),
    "learningcurves.poisoning.backdoor": ("poison",),
    "learningcurves.poisoning.corners": ("CornerPatches",),
    "learningcurves.poisoning.clean_label": ("poison_clean_label",),
    "learningcurves.poisoning.semantic": ("NaturalFeature", "poison_semantic"),
    "learningcurves.poisoning.triggers": ("PerClass",),
    "learningcurves.poisoning.patches": ("Checkerboard", "ImagePatch", "RandomPatch", "SolidPatch", "badnets_patch"),
    "learningcurves.poisoning.overlays": ("Blend", "Invisible", "Overlay", "Sinusoid"),
    "learningcurves.defences.metrics": ("attack_scores", "defence_scores", "semantic_scores"),
    "learningcurves.learners.learners": ("KernelSVM", "LinearSVM", "Logistic", "Ridge", "Softmax"),
    "learningcurves.curves.curve": ("LearningCurve", "LearningCurves"),
    "learningcurves.curves.exact_path": ("ExactPath", "exact_path"),
    "learningcurves.curves.slope": ("Slope",),
    "learningcurves.curves.entry": ("backdoor_slope", "learning_curve"),
    "learningcurves.curves.deviation": ("Deviation", "parameter_deviation"),
    "learningcurves.curves.influence": ("PairwiseInfluence", "pairwise_influence"),
    "learningcurves.curves.reg_gradient": ("RegGradient", "reg_gradient"),
    "learningcurves.curves.region": ("SafeRegion", "safe_region"),
    "learningcurves.grid": ("collect", "load_spec", "run_grid", "summarise"),
    "learningcurves.plotting.page": ("write_page",),
    "learningcurves.curves.input_gradient": ("input_gradient",),
    "learningcurves.constraints.audit": ("ConstraintAudit", "audit_constraints"),
    "learningcurves.constraints.notation": ("Constraints", "load_constraints"),
}  # fmt: skip
_WITH_TORCH = {
    "learningcurves.networks.attribute_net": ("AttributeCNN",),
    "learningcurves.networks.attribute_recipe": ("AttributeRecipe",),
    "learningcurves.networks.attribute_train": ("train_attributes",),
    "learningcurves.constraints.semantic_loss": ("SemanticLoss",),
    "learningcurves.defences.anp": ("defend_anp",),
    "learningcurves.defences.finetune": ("defend_fineprune", "defend_finetune"),
    "learningcurves.defences.relearn": ("relearn_curve",),
    "learningcurves.networks.cnn": ("SmallCNN",),
    "learningcurves.networks.curve": ("train_curve",),
    "learningcurves.networks.pgd": ("PGD",),
    "learningcurves.networks.poisoned": ("PoisonedDataset", "dataset_from_torch"),
    "learningcurves.networks.resnet": ("ResNet18",),
    "learningcurves.defences.baselines": ("defend_last_layer", "defend_smoothing"),
    "learningcurves.defences.neural_cleanse": ("detect_neural_cleanse",),
    "learningcurves.defences.soda": ("detect_soda",),
    "learningcurves.defences.soda_repair": ("repair_soda",),
}
_MODULE_OF = {name: module for where in (_WHERE, _WITH_TORCH) for module, names in where.items() for name in names}
# a star import brings no torch
__all__ = sorted([*(name for names in _WHERE.values() for name in names), "__version__"])


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'learningcurves' has no attribute {name!r}")
    if _MODULE_OF[name] in _WITH_TORCH:
        importlib.import_module("learningcurves.networks")  # says how to install torch where it is missing
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*_MODULE_OF, "__version__"])
