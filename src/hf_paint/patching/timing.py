"""Short measurements of a run before it starts: zero-shot accuracy on a sample, and seconds per step and image."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.patching.costs import Training
from hf_paint.patching.fine_tuning import make_trainer, trained_copy
from hf_paint.patching.run import PatchRun
from hf_paint.results.proportions import wilson_interval
from hf_paint.results.tables import Interval
from hf_paint.tasks.task import Task


SAMPLE = 200
"""Number of images per task on which zero-shot accuracy is measured."""
STEPS = 6
"""Number of training steps that are timed, after one to warm up; fewer if they take longer than `ENOUGH` seconds."""
FEWEST_STEPS = 2
ENOUGH = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShot:
    """Zero-shot accuracy on a sample of one split of a task.

    Attributes:
        task: Name of the task.
        split: Split that the sample was drawn from.
        correct: Number of images that are classified correctly.
        total: Number of images in the sample.
        num_images: Number of images in the split, without those of a multi-label task that show no class.
    """

    task: str
    split: str
    correct: int
    total: int
    num_images: int

    @property
    def interval(self) -> Interval:
        """95 % interval of the accuracy (Wilson's). A whole split, too, is a sample of all images of its kind."""
        return wilson_interval(self.correct, self.total)


def sample_zero_shot(run: PatchRun) -> tuple[list[ZeroShot], float]:
    """Evaluate the base on a sample of every task.

    Returns:
        The accuracies, and the number of images per second; the time to warm up is not counted.
    """
    options = run.options if run.options.precision != "auto" else replace(run.options, precision="fp32")
    evaluator = PatchRun(replace(run.recipe, options=options), run.tasks).evaluator()
    tower = evaluator.carrier(run.base.tower())
    found, seconds = [], 0.0
    for number, task in enumerate(run.tasks):
        split, indices = _sample(task)
        if number == 0:
            evaluator.predict(tower, task, split, indices=indices[: evaluator.images_at_once(tower)])
        start = time.perf_counter()
        correct = evaluator.predict(tower, task, split, indices=indices).correct
        seconds += time.perf_counter() - start
        num_images = task.images[split].drawn_from or len(task.images[split].counted)
        counts = {"correct": int(correct.sum()), "total": len(correct), "num_images": num_images}
        found.append(ZeroShot(task=task.task.name, split=split, **counts))
    return found, sum(each.total for each in found) / seconds


def _sample(task: PreparedTask) -> tuple[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return a split of a task, and the indices of a random sample of the images that accuracy counts."""
    split = task.labelled_split
    order = np.random.default_rng(0).permutation(task.images[split].counted)
    return split, order[:SAMPLE]


def time_steps(run: PatchRun, training: Training, tasks: Sequence[Task]) -> tuple[float, int]:
    """Train a copy of the base for a few steps and drop it.

    Returns:
        The median number of seconds per step, and the number of steps it was measured on.
    """
    quiet = {"save_strategy": "no", "eval_strategy": "no", "logging_strategy": "no", "report_to": []}
    length = {"max_steps": STEPS + 1, "warmup_steps": 0, "load_best_model_at_end": False, "disable_tqdm": True}
    clock = _Clock(stops_early=training.args.world_size == 1)
    model, head = trained_copy(run.base)
    with tempfile.TemporaryDirectory() as folder:
        args = training.args.with_changes(output_dir=folder, head_steps=0, **quiet, **length)
        args.whole = training.args  # which decides on workers and on decoding pictures once
        trainer = make_trainer(run, model, head, tasks=tasks, args=args, callbacks=[clock])
        trainer.train()
    return median(clock.seconds), len(clock.seconds)


class _Clock(TrainerCallback):
    """Measures the time from the end of one step to the end of the next."""

    def __init__(self, *, stops_early: bool) -> None:
        self.stops_early = stops_early
        self.seconds: list[float] = []
        self.last: float | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Note the time that a step took. Processes must agree when to stop, so only a single one stops early."""
        del kwargs
        if args.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.last is not None:
            self.seconds.append(now - self.last)
        self.last = now
        enough = len(self.seconds) >= FEWEST_STEPS and sum(self.seconds) > ENOUGH
        control.should_training_stop |= self.stops_early and enough
