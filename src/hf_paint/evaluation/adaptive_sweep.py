"""Adaptive sweep: evaluate a few alphas on all images, and the rest only on images where their neighbours disagree."""

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from hf_paint.documents.arrays import read_arrays
from hf_paint.errors import InputError, one_line
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import Predictions
from hf_paint.evaluation.prepared_task import PreparedTask, num_images
from hf_paint.evaluation.sweep import recall, record, sorted_alphas
from hf_paint.files import save_atomically
from hf_paint.results.alphas import format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.image_files import predictions_file
from hf_paint.results.records import Result
from hf_paint.results.result_log import ResultLog


NUM_ANCHORS = 8
"""Number of alphas that are evaluated on all images."""
EXPECTED_COST = 11
"""Number of alphas that usually cost as much as the whole sweep, for the time that is left."""

logger: logging.Logger = logging.getLogger(__name__)


def sweep_adaptively(
    theta_0: Mapping[str, Tensor],
    theta_1: Mapping[str, Tensor],
    alphas: Iterable[float],
    tasks: Sequence[PreparedTask],
    *,
    model: nn.Module,
    log: ResultLog | None = None,
    evaluator: Evaluator | None = None,
    extrapolate: bool = False,
) -> AlphaCurve:
    """Sweep a fine grid of alphas for about the cost of eleven alphas.

    Eight alphas, including both ends, are evaluated on all images. The intervals between them are then bisected: at
    the midpoint of two alphas, only the images on which the two predictions differ are evaluated, and all other images
    are assigned the prediction they share. If a prediction changes and changes back within an interval, this is
    missed. Records for these alphas contain `exact: false`. For images that were not evaluated, the loss,
    confidence and entropy are interpolated. The mean average precision of multi-label tasks needs the scores of all
    images, so these records do not contain it.

    Arguments, return value and errors are the same as for `sweep_alphas`.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: 1.01 * tensor for name, tensor in theta_0.items()}
        >>> prepared = [prepare_task(task, model, processor, role="patching")]
        >>> alphas = [step / 100 for step in range(101)]
        >>> curve = sweep_adaptively(theta_0, theta_1, alphas, prepared, model=image_tower(model))
        >>> curve.exact_alphas
        (0.0, 0.14, 0.29, 0.43, 0.57, 0.71, 0.86, 1.0)
    """
    ordered = sorted_alphas(alphas, extrapolate=extrapolate)
    carrier = Carrier.on_line(theta_0, theta_1, model, evaluator)
    return sweep_path_adaptively(carrier, ordered, tasks, log=log or ResultLog(None))


def sweep_path_adaptively(
    carrier: Carrier, alphas: Sequence[float], tasks: Sequence[PreparedTask], *, log: ResultLog
) -> AlphaCurve:
    """Version of `sweep_adaptively` for any path. The alphas must be sorted and include 0."""
    sweep = _AdaptiveSweep(alphas, carrier, log)
    evaluations = [(step, task, split) for step in bisection(alphas) for task in tasks for split in task.images]
    expected = min(EXPECTED_COST, len(alphas)) * num_images(tasks)
    on_all = sum(len(task.images[split]) for step, task, split in evaluations if step.is_anchor)
    with carrier.passes(on_all), carrier.evaluator.progress.over(expected, "Sweeping alpha"):
        for step, task, split in evaluations:
            carrier.evaluator.progress.note(f"alpha {format_alpha(alphas[step.position])}, {task.task.name} {split}")
            sweep.evaluate(step, task, split)
    curve = AlphaCurve(sweep.results, folder=log.folder)
    work = sweep.num_evaluated / num_images(tasks)
    exact = ", ".join(format_alpha(alpha) for alpha in curve.exact_alphas)
    logger.info(f"Adaptive sweep: {len(alphas)} alphas at the cost of {work:.1f}; exact at {exact}.")
    return curve


def verified(adaptive: AlphaCurve, full: AlphaCurve) -> AlphaCurve:
    """Log how far an adaptive sweep is from a full sweep of the same alphas and tasks, and return the full curve."""
    errors = []
    for result in adaptive.results:
        exact = full.get(result.alpha, result.role, result.task, result.split)
        if not result.exact and exact is not None:
            errors.append((abs(result.accuracy - exact.accuracy), result))
    worst, where = max(errors, key=lambda pair: pair[0], default=(0.0, full.results[0]))
    mean = sum(error for error, _ in errors) / max(1, len(errors))
    logger.info(
        f"{len(errors)} of {len(adaptive.results)} accuracies were not exact. They were off by at most "
        f"{100 * worst:.2f} points (alpha {format_alpha(where.alpha)}, {where.task} {where.split}) and by "
        f"{100 * mean:.3f} points on average."
    )
    return full


class Step(NamedTuple):
    """Position on the grid of alphas to evaluate, and its two neighbours. An anchor is its own neighbour."""

    position: int
    left: int
    right: int

    @property
    def is_anchor(self) -> bool:
        """Whether this alpha is evaluated on all images."""
        return self.left == self.right


def bisection(alphas: Sequence[float]) -> list[Step]:
    """Return the steps of an adaptive sweep in the order of evaluation: first the anchors, then the midpoints.

    Example:
        >>> [tuple(step) for step in bisection([step / 8 for step in range(9)])[-2:]]
        [(8, 8, 8), (4, 3, 5)]
    """
    last = len(alphas) - 1
    spread = (round(i * last / (NUM_ANCHORS - 1)) for i in range(NUM_ANCHORS))
    anchors = sorted({*spread, alphas.index(0.0)})
    steps = [Step(anchor, anchor, anchor) for anchor in anchors]
    intervals = deque(pairwise(anchors))
    while intervals:
        left, right = intervals.popleft()
        middle = (left + right) // 2
        if left < middle:
            steps.append(Step(middle, left, right))
            intervals += [(left, middle), (middle, right)]
    return steps


class _AdaptiveSweep:
    """Adaptive sweep with its predictions and records so far.

    Attributes:
        results: Records so far.
        predictions: (position on the grid of alphas, task, split) -> predictions.
        num_evaluated: Number of images that the model was run on.
    """

    def __init__(self, alphas: Sequence[float], carrier: Carrier, log: ResultLog) -> None:
        self.alphas = alphas
        self.carrier = carrier
        self.log = log
        self.results: list[Result] = []
        self.predictions: dict[tuple[int, str, str], Predictions] = {}
        self.num_evaluated = 0

    def evaluate(self, step: Step, task: PreparedTask, split: str) -> None:
        """Evaluate one alpha on one split, or reuse the record and predictions of an interrupted run."""
        usable = self._usable_records(step, task, split)
        pending = usable[-1]
        logged = next((result for candidate in usable if (result := recall(candidate, log=self.log))), None)
        predictions = None if logged is None else self._load_predictions([*usable, logged])
        if predictions is not None and step.is_anchor:
            self.carrier.evaluator.progress.skip(len(task.images[split]))
        if predictions is None:
            predictions = self._predict(step, task, split)
            self._save_predictions(pending, predictions)
        self.predictions[step.position, task.task.name, split] = predictions
        self.results.append(record(predictions, pending, task, log=self.log) if logged is None else logged)

    def _usable_records(self, step: Step, task: PreparedTask, split: str) -> list[Result]:
        """Return the pending records that can be used for a step. The last one is what the step itself would add.

        Anchors need an exact record. For other alphas, exact records take precedence over inferred ones.
        """
        alpha = self.alphas[step.position]
        return [
            self.carrier.evaluator.pending(
                task, split, alpha=alpha, weights=self.carrier.fingerprint(alpha), exact=exact
            )
            for exact in ((True,) if step.is_anchor else (True, False))
        ]

    def _predict(self, step: Step, task: PreparedTask, split: str) -> Predictions:
        if not step.is_anchor:
            return self._predict_between(step, task, split)
        self.num_evaluated += len(task.images[split])
        return self.carrier.evaluator.predict(self.carrier.at(self.alphas[step.position]), task, split)

    def _predict_between(self, step: Step, task: PreparedTask, split: str) -> Predictions:
        """Evaluate the images on which the neighbours disagree, and reuse their shared prediction for all others."""
        name, alpha = task.task.name, self.alphas[step.position]
        before, after = self.predictions[step.left, name, split], self.predictions[step.right, name, split]
        share = (alpha - self.alphas[step.left]) / (self.alphas[step.right] - self.alphas[step.left])
        predicted = before.predicted.copy()
        confidence = (1 - share) * before.confidence + share * after.confidence
        loss = (1 - share) * before.loss + share * after.loss
        entropy = None
        if before.relative_entropy is not None and after.relative_entropy is not None:
            entropy = (1 - share) * before.relative_entropy + share * after.relative_entropy
        differing = np.flatnonzero(before.predicted != after.predicted)
        if len(differing):
            self.num_evaluated += len(differing)
            exact = self.carrier.evaluator.predict(self.carrier.at(alpha), task, split, indices=differing)
            predicted[differing], confidence[differing] = exact.predicted, exact.confidence
            loss[differing] = exact.loss
            if entropy is not None and exact.relative_entropy is not None:
                entropy[differing] = exact.relative_entropy
        return Predictions(before.labels, predicted, confidence, loss, before.written, relative_entropy=entropy)

    def _load_predictions(self, records: Sequence[Result]) -> Predictions | None:
        """Return the predictions of the first record whose predictions were saved, or None."""
        for path in map(self._path, records):
            if path is not None and path.exists():
                try:
                    return Predictions(**read_arrays(path))
                except (InputError, TypeError) as error:
                    logger.warning(f"{one_line(error)}, so these images are predicted again.")
        return None

    def _save_predictions(self, pending: Result, predictions: Predictions) -> None:
        path = self._path(pending)
        if path is not None and self.log.write:
            needed = replace(predictions, candidates=None, probabilities=None)  # they are recorded once
            arrays = {name: array for name, array in asdict(needed).items() if array is not None}
            save_atomically(path, lambda partial: np.savez(partial, **arrays))

    def _path(self, pending: Result) -> Path | None:
        """Return the path to the predictions of a record, or None if the log is in memory."""
        if self.log.folder is None or pending.correct_file is None:
            return None
        return self.log.folder / predictions_file(pending.correct_file)
