"""The adaptive sweep: a few alphas in full, the others only where the predictions of their neighbours differ."""

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import Predictions
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.evaluation.sweep import record, sorted_alphas
from hf_paint.files import save_atomically
from hf_paint.merging.path import Line
from hf_paint.results.alphas import format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result, ResultLog
from hf_paint.results.run_folder import predictions_file


NUM_ANCHORS = 8
"""How many alphas are evaluated on every image."""

logger = logging.getLogger(__name__)


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
    """Sweep a fine grid of alphas for the work of about eleven.

    Eight alphas, both ends among them, are evaluated on every image. The intervals between them are halved again and
    again: in the middle of two alphas, an image for which both predict the same class is taken to be predicted the
    same, and only the others are evaluated. What a prediction does and undoes within an interval is not seen. The
    records of such alphas say `exact: false`; their loss and confidence are interpolated where nothing was evaluated.

    The arguments, the result and the errors are those of `sweep_alphas`.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: 1.01 * tensor for name, tensor in theta_0.items()}
        >>> prepared = [prepare_task(task, model, processor, role="patching")]
        >>> alphas = [step / 100 for step in range(101)]
        >>> curve = sweep_adaptively(theta_0, theta_1, alphas, prepared, model=image_tower(model))
        >>> curve.exact_alphas
        (0.0, 0.14, 0.29, 0.43, 0.57, 0.71, 0.86, 1.0)
    """
    ordered = sorted_alphas([*alphas], extrapolate=extrapolate)
    carrier = Carrier(Line(theta_0, theta_1), model, evaluator or Evaluator(Accelerator()))
    return sweep_path_adaptively(carrier, ordered, tasks, log=log or ResultLog(None))


def sweep_path_adaptively(
    carrier: Carrier, alphas: Sequence[float], tasks: Sequence[PreparedTask], *, log: ResultLog
) -> AlphaCurve:
    """Sweep the alphas of a path, which are sorted and include 0: `sweep_adaptively` on any path."""
    evaluator = carrier.evaluator
    sweep = _AdaptiveSweep(alphas, carrier, log)
    images_before = evaluator.num_images
    steps = [(*step, task, split) for step in bisection(alphas) for task in tasks for split in task.images]
    main = evaluator.accelerator.is_local_main_process
    with tqdm(steps, "Sweeping alpha", unit="evaluation", disable=not main) as progress:
        for position, left, right, task, split in progress:
            progress.set_postfix_str(f"alpha {format_alpha(alphas[position])}, {task.task.name} {split}")
            sweep.evaluate(position, left, right, task, split)
    curve = AlphaCurve(sweep.results, folder=log.folder)
    whole = sum(len(images) for task in tasks for images in task.images.values())
    work = (evaluator.num_images - images_before) / whole
    exact = ", ".join(format_alpha(alpha) for alpha in curve.exact_alphas)
    logger.info(f"Adaptive sweep: {len(alphas)} alphas for the work of {work:.1f}; exact at {exact}.")
    return curve


def verified(adaptive: AlphaCurve, full: AlphaCurve) -> AlphaCurve:
    """Say how far off an adaptive sweep was, and return the full one of the same alphas and tasks."""
    errors = []
    for result in adaptive.results:
        exact = full.get(result.alpha, result.role, result.task, result.split)
        if not result.exact and exact is not None:
            errors.append((abs(result.accuracy - exact.accuracy), result))
    worst, where = max(errors, key=lambda pair: pair[0], default=(0.0, full.results[0]))
    mean = sum(error for error, _ in errors) / max(1, len(errors))
    logger.info(
        f"Of {len(adaptive.results)} accuracies {len(errors)} were not exact: off by {100 * worst:.2f} points at most "
        f"(alpha {format_alpha(where.alpha)}, {where.task} {where.split}), {100 * mean:.3f} on average."
    )
    return full


def bisection(alphas: Sequence[float]) -> list[tuple[int, int, int]]:
    """Return (position, left, right) in the order of evaluation; an anchor is its own neighbour on both sides.

    Example:
        >>> bisection([step / 8 for step in range(9)])[-2:]
        [(8, 8, 8), (4, 3, 5)]
    """
    last = len(alphas) - 1
    spread = (round(i * last / (NUM_ANCHORS - 1)) for i in range(NUM_ANCHORS))
    anchors = sorted({*spread, alphas.index(0.0)})
    steps = [(anchor, anchor, anchor) for anchor in anchors]
    intervals = deque(pairwise(anchors))
    while intervals:
        left, right = intervals.popleft()
        middle = (left + right) // 2
        if left < middle:
            steps.append((middle, left, right))
            intervals += [(left, middle), (middle, right)]
    return steps


class _AdaptiveSweep:
    """What has been predicted so far, by position on the grid of alphas."""

    def __init__(self, alphas: Sequence[float], carrier: Carrier, log: ResultLog) -> None:
        self.alphas = alphas
        self.carrier = carrier
        self.log = log
        self.evaluator = carrier.evaluator
        self.results: list[Result] = []
        self.predictions: dict[tuple[int, str, str], Predictions] = {}

    def evaluate(self, position: int, left: int, right: int, task: PreparedTask, split: str) -> None:
        """Evaluate one alpha on one split, or take what an interrupted run knew of it."""
        alpha, anchor = self.alphas[position], left == right
        weights = self.carrier.fingerprint(alpha)
        exact, inferred = (
            self.evaluator.pending(task, split, alpha=alpha, weights=weights, exact=exact) for exact in (True, False)
        )
        made, candidates = (exact, [exact]) if anchor else (inferred, [exact, inferred])
        known = [found for pending in candidates if (found := self.log.find(pending.key))]
        paths = [path for pending in candidates if known and (path := _kept_predictions(self.log, pending))]
        kept = [path for path in paths if path.exists()]
        if kept:
            predictions = Predictions(**np.load(kept[0]))
        elif anchor:
            predictions = self.evaluator.predict(self.carrier.at(alpha), task, split)
        else:
            predictions = self._between(position, left, right, task, split)
        path = _kept_predictions(self.log, made)
        if not kept and path is not None and self.log.write:
            arrays = {name: array for name, array in asdict(predictions).items() if array is not None}
            save_atomically(path, lambda path: np.savez(path, **arrays))
        self.predictions[position, task.task.name, split] = predictions
        self.results.append(known[0] if known else record(predictions, made, task, log=self.log))

    def _between(self, position: int, left: int, right: int, task: PreparedTask, split: str) -> Predictions:
        """Predict where the neighbours differ, and take over what they agree on."""
        name, alpha = task.task.name, self.alphas[position]
        before, after = self.predictions[left, name, split], self.predictions[right, name, split]
        share = (alpha - self.alphas[left]) / (self.alphas[right] - self.alphas[left])
        predicted = before.predicted.copy()
        confidence = (1 - share) * before.confidence + share * after.confidence
        loss = (1 - share) * before.loss + share * after.loss
        differing = np.flatnonzero(before.predicted != after.predicted)
        if len(differing):
            fresh = self.evaluator.predict(self.carrier.at(alpha), task, split, indices=differing)
            predicted[differing], confidence[differing], loss[differing] = (
                fresh.predicted,
                fresh.confidence,
                fresh.loss,
            )
        return replace(before, predicted=predicted, confidence=confidence, loss=loss)


def _kept_predictions(log: ResultLog, pending: Result) -> Path | None:
    """Return where the predictions behind a record are kept for a run that goes on."""
    if log.folder is None or pending.correct_file is None:
        return None
    return log.folder / predictions_file(pending.correct_file)
