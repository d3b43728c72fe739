"""Choose between float32 and bfloat16 by comparing them on a sample of the images."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from accelerate.utils import broadcast_object_list
from torch import nn
from tqdm.auto import tqdm

from hf_paint.evaluation.evaluator import Evaluator, Precision
from hf_paint.evaluation.prepared_task import PreparedTask


PrecisionChoice = Literal["auto", "fp32", "bf16"]
SAMPLE_SIZE = 512
"""Maximum number of images per task to use in the comparison."""
MIN_AGREEMENT = 0.99
MAX_ACCURACY_DIFFERENCE = 0.005
MIN_SPEEDUP = 1.2

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionCheck:
    """Comparison of bfloat16 with float32.

    Attributes:
        num_images: Total number of images over all towers and tasks.
        agreement: Lowest fraction of images with the same predicted class, for any tower and task, in [0, 1].
        accuracy_difference: Largest absolute difference in accuracy, for any tower and task, in [0, 1].
        speedup: Total time in float32 divided by total time in bfloat16.
    """

    num_images: int
    agreement: float
    accuracy_difference: float
    speedup: float

    @property
    def precision(self) -> Precision:
        """Precision to use: `bf16` if its predictions agree and it is faster, otherwise `fp32`."""
        agrees = self.agreement >= MIN_AGREEMENT and self.accuracy_difference <= MAX_ACCURACY_DIFFERENCE
        return "bf16" if agrees and self.speedup >= MIN_SPEEDUP else "fp32"

    def __str__(self) -> str:
        return (
            f"bf16 compared with fp32 on {self.num_images} images: {100 * self.agreement:.2f} % of the predictions "
            f"agree, accuracy differs by at most {100 * self.accuracy_difference:.2f} points, and bf16 is "
            f"{self.speedup:.1f} times as fast. Evaluating in {self.precision}."
        )


def compare_precisions(
    towers: Iterable[nn.Module], tasks: Sequence[PreparedTask], evaluator: Evaluator
) -> PrecisionCheck:
    """Compare bfloat16 with float32 on up to 512 images per task, and log the result.

    Every pass is run once before it is timed, so that neither compilation nor caches affect the choice.

    Args:
        towers: Image towers in float32. For a sweep, pass towers with the weights theta_0 and theta_1.
        tasks: Tasks to compare on.
        evaluator: Evaluator with precision `fp32`.

    Returns:
        The comparison. All processes get the same result.

    Example:
        >>> prepared = [prepare_task(task, model, processor)]
        >>> compare_precisions([image_tower(model)], prepared, Evaluator(Accelerator())).num_images
        8
    """
    in_bf16 = evaluator.with_precision("bf16")
    comparisons, seconds = [], np.zeros(2)
    disable = not evaluator.accelerator.is_local_main_process
    for tower in towers:
        carriers = [(runner, runner.carrier(tower)) for runner in (evaluator, in_bf16)]
        for task in tqdm(tasks, "Comparing bf16 with fp32", unit="task", leave=False, disable=disable):
            split, number = task.labelled_split, len(task.images[task.labelled_split])
            sample = np.linspace(0, number - 1, min(SAMPLE_SIZE, number)).astype(np.int64)
            predictions = []
            for i, (runner, carrier) in enumerate(carriers):
                runner.predict(carrier, task, split, indices=sample)  # compiles for every batch shape that is timed
                start = time.perf_counter()
                predictions.append(runner.predict(carrier, task, split, indices=sample))
                seconds[i] += time.perf_counter() - start
            comparisons.append(predictions)
    check = PrecisionCheck(
        num_images=sum(len(fp32.labels) for fp32, _ in comparisons),
        agreement=min(float((fp32.predicted == bf16.predicted).mean()) for fp32, bf16 in comparisons),
        accuracy_difference=max(abs(float(fp32.correct.mean() - bf16.correct.mean())) for fp32, bf16 in comparisons),
        speedup=float(seconds[0] / seconds[1]),
    )
    checks = [check]
    broadcast_object_list(checks)  # timings differ between processes
    logger.info(str(checks[0]))
    return checks[0]
