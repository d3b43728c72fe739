"""The sweep: every alpha on every task, each (weights, task) evaluated once (PAINT, Section 2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_paint.compatibility import check_alpha, check_compatible
from hf_paint.curve import AlphaCurve
from hf_paint.evaluator import Evaluator, Predictions, score
from hf_paint.fingerprints import fingerprint_interpolation, fingerprint_weights
from hf_paint.interpolation import interpolate_into, tensor_specs
from hf_paint.prepared_task import PreparedTask
from hf_paint.results import Result, ResultLog, format_alpha


def sweep_alphas(
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
    """Evaluate every alpha on every split of every task; what the log knows is not evaluated again.

    Args:
        theta_0: The image tower before fine-tuning, name -> tensor.
        theta_1: The image tower after fine-tuning.
        alphas: The alphas; 0 is always added, as the zero-shot row that everything is compared with.
        tasks: The tasks, made by `prepare_task`.
        model: An image tower (`hf_paint.modeling.image_tower`); it is copied once, and the copy carries the weights.
        log: Where each record goes as soon as it is known; in memory by default.
        evaluator: Runs the model; one in float32 is made by default.
        extrapolate: Allow alphas outside [0, 1].

    Returns:
        The curve of these alphas and tasks.

    Raises:
        InputError: If an alpha is out of range, or the weights do not fit together.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: 1.01 * tensor for name, tensor in theta_0.items()}
        >>> prepared = [prepare_task(task, model, processor, role="patching")]
        >>> sweep_alphas(theta_0, theta_1, [0.5, 1.0], prepared, model=image_tower(model)).alphas
        (0.0, 0.5, 1.0)
    """
    log, evaluator = log or ResultLog(None), evaluator or Evaluator(Accelerator())
    ordered = sorted_alphas([*alphas], extrapolate=extrapolate)
    line = WeightLine(theta_0, theta_1, model, evaluator)
    results = []
    main = evaluator.accelerator.is_local_main_process
    total = len(ordered) * sum(len(task.images) for task in tasks)
    with tqdm(total=total, desc="Sweeping alpha", unit="evaluation", disable=not main) as progress:
        for alpha in ordered:
            for task in tasks:
                for split in task.images:
                    progress.set_postfix_str(f"alpha {format_alpha(alpha)}, {task.task.name} {split}")
                    pending = evaluator.pending(task, split, alpha=alpha, weights=line.fingerprint(alpha))
                    known = log.find(pending.key)
                    results.append(known or record(evaluator.predict(line.at(alpha), task, split), pending, log))
                    progress.update()
    return AlphaCurve(results, folder=log.folder)


class WeightLine:
    """The line from theta_0 to theta_1, carried by one model whose weights are overwritten in place.

    Args:
        theta_0: The image tower before fine-tuning, name -> tensor.
        theta_1: The image tower after fine-tuning.
        model: The image tower that is copied.
        evaluator: Says on which device and in which dtype the copy is.

    Raises:
        InputError: If the weights do not fit together.
    """

    def __init__(
        self, theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], model: nn.Module, evaluator: Evaluator
    ) -> None:
        check_compatible(tensor_specs(theta_0), tensor_specs(theta_1))
        self._ends = fingerprint_weights(theta_0), fingerprint_weights(theta_1)
        device = evaluator.accelerator.device
        self.theta_0 = {name: tensor.to(device) for name, tensor in theta_0.items()}
        self.theta_1 = {name: tensor.to(device) for name, tensor in theta_1.items()}
        self._tower = evaluator.carrier(model)
        self._weights = self._tower.state_dict()
        self._alpha: float | None = None

    def at(self, alpha: float) -> nn.Module:
        """Return the model, which carries theta_alpha until the next call."""
        if alpha != self._alpha:
            interpolate_into(self._weights, self.theta_0, self.theta_1, alpha)
            self._alpha = alpha
        return self._tower

    def fingerprint(self, alpha: float) -> str:
        """Return the fingerprint of theta_alpha, without computing it."""
        return fingerprint_interpolation(*self._ends, alpha)


def sorted_alphas(alphas: Sequence[float], *, extrapolate: bool = False) -> list[float]:
    """Return the alphas in order, each once, 0 among them.

    Raises:
        InputError: If one is out of range.
    """
    for alpha in alphas:
        check_alpha(alpha, extrapolate=extrapolate)
    return sorted({0.0, *map(float, alphas)})


def record(predictions: Predictions, pending: Result, log: ResultLog) -> Result:
    """Score predictions and append the record to the log, with which images were right."""
    result = score(predictions, pending if log.folder is not None else replace(pending, examples=None))
    log.append(result, predictions.correct)
    return result
