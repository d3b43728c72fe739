"""The files of a run folder: their names, and what becomes of one that is missing or damaged."""

from collections.abc import Iterable
from pathlib import PurePath

from hf_paint.weights.folders import TASKS


RECIPE = "recipe.yaml"
STEP_RECIPE = "step.yaml"
"""Recipe of one step of sequential patching, which cannot be run by itself."""
IDENTITY, SELECTION = "identity.json", "selection.json"
RESULTS = "results.jsonl"
DETAILS = "details.jsonl"
"""Calibration, confusion and best candidates of each exact evaluation."""
ENSEMBLE = "ensemble.jsonl"
"""Records for the output-space ensemble, kept separate from the records for interpolated weights."""
TRIED = "methods.jsonl"
"""Records of the merges that `method: auto` tried, whose alpha is a mapping from the merge to its alpha."""
SINGLE_MODELS = "single_models.jsonl"
"""Records of the models that a `parallel` run merged, each on the test images of its own task at `{task: 1}`."""
PRECISION, CARD_FACTS, ROBUSTNESS, SCORES = "precision.json", "card.json", "robustness.json", "scores.json"
COEFFICIENTS, ONEDNN = "coefficients.json", "onednn.json"
ORDERS, CHANGES, TRACKER_IDS = "orders.json", "changes.json", "trackers.json"
CURVE_PLOT, ACCURACY_PLOT, PER_CLASS_PLOT = "curve.png", "accuracy.png", "per_class.png"
ROBUSTNESS_PLOT = "robustness.png"
REPORT = "report.html"
EXAMPLES = "examples"
"""Folder with pictures that the patch changes."""


def example_plot(task: str) -> str:
    """Return the file name of a task's plot of example images before and after patching."""
    return f"examples-{task}.png"


KEPT = (RECIPE, STEP_RECIPE, IDENTITY, SELECTION)
"""Files that no run can make again as they were: what it was started with, and what people chose."""
RECORDS = (RESULTS, ENSEMBLE, DETAILS, TRIED, SINGLE_MODELS)
"""Files with a line for each evaluation. Damaged lines are removed; if a file is missing, so are the other ones."""
FACTS = (PRECISION, ONEDNN, CARD_FACTS, ROBUSTNESS, SCORES, COEFFICIENTS, ORDERS, CHANGES, TRACKER_IDS, TASKS)
"""What a run found out once, and finds out again."""
PER_IMAGE = ("correct/*.npy", "predictions/*.npz")
"""A file for each evaluation. Without it, the evaluation is done again when the run is; few readers need it."""
DRAWN = (CURVE_PLOT, ACCURACY_PLOT, PER_CLASS_PLOT, ROBUSTNESS_PLOT, example_plot("*"), REPORT)
"""What people look at: drawn again at the end of each run, and read by nothing but a push."""
SEALED = (*KEPT, *RECORDS, *FACTS, *PER_IMAGE, *DRAWN)
"""Glob patterns for the files that have a checksum; models have a manifest of their own."""
PARTS_OF_A_RUN = (
    *(RESULTS, DETAILS, TRIED, SINGLE_MODELS, EXAMPLES, SELECTION, "theta_1", "patched", "variants"),
    *("checkpoint-*", "step-*", "thetas", "order-*", SCORES, COEFFICIENTS, "fisher", "grams"),
    *("theta_0", "head", "adapter"),
)
"""Files and folders that belong to a run. A folder without a recipe must not contain them."""


def is_one_of(patterns: Iterable[str], name: str) -> bool:
    """Return whether a path, relative to the run folder, matches one of these patterns.

    Example:
        >>> is_one_of(SEALED, "correct/mnist.npy"), is_one_of(SEALED, "notes.json"), is_one_of(SEALED, "old/card.json")
        (True, False, False)
    """
    path = PurePath(name)
    return any(path.match(pattern) and len(path.parts) == len(PurePath(pattern).parts) for pattern in patterns)
