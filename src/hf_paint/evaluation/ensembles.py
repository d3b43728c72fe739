"""Evaluate output-space ensembles for all alphas with two forward passes per image (WiSE-FT, appendix)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn

from hf_paint.errors import InputError
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import predictions_from_logits
from hf_paint.evaluation.prepared_task import PreparedTask, num_images
from hf_paint.evaluation.sweep import recall, record, sorted_alphas
from hf_paint.fingerprints import fingerprint_values
from hf_paint.merging.interpolation import combine_tensor
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result
from hf_paint.results.result_log import ResultLog
from hf_paint.weights.compatibility import check_alpha


def evaluate_ensemble(
    theta_0: Mapping[str, Tensor],
    theta_1: Mapping[str, Tensor],
    alphas: Iterable[float],
    tasks: Sequence[PreparedTask],
    *,
    model: nn.Module,
    log: ResultLog | None = None,
    evaluator: Evaluator | None = None,
) -> AlphaCurve:
    """Evaluate the ensemble `(1 - alpha) * f(theta_0) + alpha * f(theta_1)`, for comparison with `sweep_alphas`.

    The logits of both models are computed once per split and then mixed for every alpha. At inference, an ensemble
    needs two forward passes per image, whereas interpolated weights need only one.

    Args:
        theta_0: Image tower weights before fine-tuning, name -> tensor.
        theta_1: Image tower weights after fine-tuning.
        alphas: Alphas to evaluate. 0 is always added.
        tasks: Tasks to evaluate, from `prepare_task`.
        model: Image tower (`hf_paint.models.image_tower`). It is copied once, and weights are loaded into the copy.
        log: Log that records are added to. Evaluations that are already in the log are skipped. Defaults to a log in
            memory.
        evaluator: Evaluator that runs the model. The default one uses float32.

    Returns:
        Curve over these alphas and tasks. The `weights` of its records start with `ensemble`.

    Raises:
        InputError: If an alpha is out of range, or the weights are not compatible.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: 1.01 * tensor for name, tensor in theta_0.items()}
        >>> prepared = [prepare_task(task, model, processor, role="patching")]
        >>> evaluate_ensemble(theta_0, theta_1, [0.5, 1.0], prepared, model=image_tower(model)).alphas
        (0.0, 0.5, 1.0)
    """
    ordered = sorted_alphas(alphas)
    carrier = Carrier.on_line(theta_0, theta_1, model, evaluator)
    log = log or ResultLog(None)
    splits = [(task, split) for task in tasks for split in task.images]
    with carrier.evaluator.progress.over(2 * num_images(tasks), "Evaluating the ensemble"):
        results = [result for split in splits for result in _sweep(carrier, ordered, *split, log=log)]
    return AlphaCurve(results, folder=log.folder)


def _sweep(
    carrier: Carrier, alphas: Sequence[float], task: PreparedTask, split: str, *, log: ResultLog
) -> Iterator[Result]:
    """Yield the record for each alpha on one split. The two models only run if a record is missing."""
    logits_of_ends = cache(partial(_logits_of_ends, carrier, task, split))
    ends = [carrier.fingerprint(alpha) for alpha in (0.0, 1.0)]
    for alpha in alphas:
        weights = f"ensemble-{fingerprint_values(*ends, alpha)}"
        pending = carrier.evaluator.pending(task, split, alpha=alpha, weights=weights)
        result = recall(pending, log=log)
        if result is None:
            logits_0, logits_1, labels = logits_of_ends()
            mixed = ensemble_logits(logits_0, logits_1, alpha)
            predictions = predictions_from_logits(mixed, labels, task.images[split].written)
            result = record(predictions, pending, task, log=log)
        yield result


def _logits_of_ends(carrier: Carrier, task: PreparedTask, split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits of theta_0 and theta_1, both (num_images, num_classes), and the labels (num_images,)."""
    logits_0, labels = carrier.evaluator.logits(carrier.at(0.0), task, split)
    logits_1, _ = carrier.evaluator.logits(carrier.at(1.0), task, split)
    return logits_0, logits_1, labels


def ensemble_logits(logits_0: Tensor, logits_1: Tensor, alpha: float) -> Tensor:
    """Return `(1 - alpha) * f(theta_0) + alpha * f(theta_1)`, as exact as `interpolate`.

    If the model is linear in its weights between theta_0 and theta_1, this is equivalent to interpolating the weights
    (WiSE-FT, Proposition 1).

    Args:
        logits_0: Logits of the model before fine-tuning, shape (num_images, num_classes).
        logits_1: Logits of the model after fine-tuning, for the same images and classes.
        alpha: Weight of `logits_1`, in [0, 1].

    Raises:
        InputError: If the shapes or dtypes differ, or alpha is out of range.

    Example:
        >>> ensemble_logits(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 0.0]]), 0.25)
        tensor([[0.5000, 3.0000]])
    """
    check_alpha(alpha)
    if logits_0.shape != logits_1.shape or logits_0.dtype != logits_1.dtype:
        specs = " and ".join(f"{tuple(logits.shape)} {logits.dtype}" for logits in (logits_0, logits_1))
        raise InputError(f"The logits of both models must have the same shape and dtype, got {specs}.")
    padding = logits_0.isneginf()  # of images with fewer candidates than others
    mixed = combine_tensor("logits", logits_0.masked_fill(padding, 0), [(logits_1.masked_fill(padding, 0), alpha)])
    return mixed.masked_fill(padding, -torch.inf)
