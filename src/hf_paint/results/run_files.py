"""The files of a run folder: their names, and what becomes of one that is missing or damaged."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath

from hf_paint.weights.folders import TASKS


RECIPE = "recipe.yaml"
STEP_RECIPE = "step.yaml"
IDENTITY, SELECTION = "identity.json", "selection.json"
RESULTS, DETAILS, ENSEMBLE, TRIED = "results.jsonl", "details.jsonl", "ensemble.jsonl", "methods.jsonl"
SINGLE_MODELS = "single_models.jsonl"
PRECISION, CARD_FACTS, ROBUSTNESS, SCORES = "precision.json", "card.json", "robustness.json", "scores.json"
COEFFICIENTS, ONEDNN = "coefficients.json", "onednn.json"
ORDERS, CHANGES, TRACKER_IDS = "orders.json", "changes.json", "trackers.json"
CURVE_PLOT, ACCURACY_PLOT, PER_CLASS_PLOT = "curve.png", "accuracy.png", "per_class.png"
ROBUSTNESS_PLOT = "robustness.png"
REPORT = "report.html"
EXAMPLES = "examples"


def example_plot(task: str) -> str:
    """Return the file name of a task's plot of example images before and after patching."""
    return f"examples-{task}.png"


FILES: Mapping[str, str] = {
    RECIPE: "The resolved recipe, which reproduces the run.",
    STEP_RECIPE: "The recipe of one step of sequential patching, which cannot be run by itself.",
    IDENTITY: "Fingerprints of everything that the run reads, and the number of processes that it was started on.",
    SELECTION: "The chosen alpha, the rule, the gains with 95 % intervals, and the choices before it.",
    RESULTS: "One record for each model, task and split, appended as soon as it is measured.",
    ENSEMBLE: "With `compare_ensemble`, the same records for mixtures of the logits of theta_0 and theta_1.",
    DETAILS: "More on each evaluation of all images: calibration, confusion and the best candidates.",
    TRIED: "With `method: auto`, the records of the merges that were tried; their alpha maps the merge to its alpha.",
    SINGLE_MODELS: "With a merge of several tasks, the record of each model on the test images of its task.",
    PRECISION: "With `precision: auto`, the comparison between bfloat16 and float32.",
    ONEDNN: "Whether oneDNN computes float32 products on the CPU, if that was measured or set.",
    CARD_FACTS: "Other facts for the model card, such as versions, the licence of the base and the dtype.",
    ROBUSTNESS: "With shift tasks, the accuracy under distribution shift, as a table.",
    SCORES: "The validation scores that a method computed while it merged models, such as those of a greedy soup.",
    COEFFICIENTS: "The coefficients that a method learned, for each group of tensors and each model.",
    ORDERS: "With `num_orders` above 1, the mean and the spread of the accuracies over the orders.",
    CHANGES: "How far each layer of the fine-tuned models is from the base.",
    TRACKER_IDS: "With `report_to`, what the experiment trackers have been told, so that a resumed run goes on there.",
    TASKS: "The classes and prompts of every task, as the model was measured on them.",
    "correct/*.npy": "One boolean per image: whether it is classified correctly. Paired intervals need it.",
    "predictions/*.npz": "With `sweep: adaptive`, the predictions that it reuses.",
    CURVE_PLOT: "Patching accuracy against supported accuracy, one point per alpha; also as SVG.",
    ACCURACY_PLOT: "The accuracy of each task against alpha; also as SVG.",
    PER_CLASS_PLOT: "The classes whose accuracy changes most; also as SVG.",
    ROBUSTNESS_PLOT: "With shift tasks, the accuracy under shift against the accuracy on the reference; also as SVG.",
    example_plot("*"): "Images of each task with candidates and probabilities, before and after patching.",
    REPORT: "The report: one page with everything that was measured.",
}
"""What each file of a run folder holds."""
FOLDERS: Mapping[str, str] = {
    "patched": "The patched model: weights, config, processor, tokenizer and card.",
    "patched_adapter": "With `use_peft`, the adapter scaled by the chosen alpha.",
    "theta_1": "The fine-tuned model, or what a method made of several.",
    "theta_0": "With `train_head`, the model that training started from, with its untrained head.",
    "thetas": "One run folder for each model that a method merges: a task in parallel patching, or an ingredient.",
    "adapter": "With `use_peft`, the adapter as it was trained.",
    "variants": "With `save_variants`, the model at every alpha.",
    "checkpoint-*": "The last training checkpoints, from which an interrupted training goes on.",
    "head": "With `head_steps`, the phase that trains the head alone.",
    "step-*": "In sequential patching, one run folder for each step.",
    "order-*": "With `num_orders` above 1, one run folder for each order of the tasks.",
    EXAMPLES: "Images of each task, first those that patching changes, and what they show.",
    "fisher": "With `method: fisher`, the Fisher information of theta_0 and theta_1.",
    "grams": "With `method: regmean`, the measured inputs of the layers, until theta_1 is saved.",
}
"""What each folder in a run folder holds."""

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
