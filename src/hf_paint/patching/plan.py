"""A run before it starts: everything is opened and checked as the run would, and what it costs is measured."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments

from hf_paint.data.read_once import reading_once
from hf_paint.data.splits import Split
from hf_paint.patching.concerns import concerns, train_splits
from hf_paint.patching.costs import Training, bytes_on_disk, images_to_evaluate, trainings_of
from hf_paint.patching.method_costs import MethodCosts, method_costs
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.processes import with_progress
from hf_paint.patching.progress import describe_progress, fine_tuned_folders
from hf_paint.patching.recipe import Rule, Strategy
from hf_paint.patching.run import PatchRun
from hf_paint.patching.stages import OPENING
from hf_paint.patching.start import prepare, resolve
from hf_paint.patching.timing import ZeroShot, sample_zero_shot, time_steps
from hf_paint.results.alphas import DEFAULT_ALPHAS
from hf_paint.results.progress import begin_stage, stages
from hf_paint.tasks.registry import TaskLike


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What a run is about to do, and what it costs.

    Attributes:
        run: The run, with its tasks prepared.
        train: Task -> train split, for the tasks whose training images are read.
        zero_shot: Zero-shot accuracy on a sample of every task.
        trainings: Every fine-tuning, whether or not it is finished.
        opening_seconds: Measured time to load the base and to open and decode all data.
        seconds_per_step: Measured time of a training step; 0 if there is nothing to train.
        timed_steps: Number of steps that it was measured on.
        images_per_second: Measured speed of evaluation, over all processes.
        num_images: Number of images that the evaluations of the run pass through the image tower.
        method: What the method measures before the sweep.
        disk: What the run writes -> bytes.
        progress: What an earlier start of the run has left behind.
        concerns: Settings that deserve a second look.
    """

    run: PatchRun
    train: Mapping[str, Split]
    zero_shot: Sequence[ZeroShot]
    trainings: Sequence[Training]
    opening_seconds: float
    seconds_per_step: float
    timed_steps: int
    images_per_second: float
    num_images: int
    method: MethodCosts
    disk: Mapping[str, int]
    progress: Sequence[str]
    concerns: Sequence[str]

    @property
    def training_seconds(self) -> float:
        """Expected time of all training steps; with a head alone, of the embedding of its images."""
        seconds = 0.0
        for training in self.trainings:
            head = training.args.freeze_tower or training.args.head_steps
            images = sum(len(self.train[name].rows) for name in training.tasks) if head else 0
            seconds += images / self.images_per_second + training.steps * self.seconds_per_step
        return seconds

    @property
    def method_seconds(self) -> float:
        """Expected time of what the method measures before the sweep."""
        return self.method.evaluations / self.images_per_second

    @property
    def evaluation_seconds(self) -> float:
        """Expected time of all evaluations."""
        return self.num_images / self.images_per_second


@with_progress
@reading_once()
def plan(
    model: str | Path | PreTrainedModel,
    patching_tasks: Sequence[TaskLike],
    supported_tasks: Sequence[TaskLike],
    args: TrainingArguments,
    *,
    strategy: Strategy = "single",
    rule: Rule | None = None,
    options: PatchOptions | None = None,
) -> Plan:
    """Check a patching run and measure what it would cost, without keeping anything but decoded pixels.

    The base is loaded, all data are opened, and all images to evaluate are decoded into the pixel cache, as the run
    would do. Zero-shot accuracy is measured on a sample, and a copy of the base is trained for a few steps. Nothing is
    written to the run folder.

    Args:
        model: Model to patch: a Hub repository id, a folder, or a model in memory, which is left unchanged.
        patching_tasks: Tasks to improve.
        supported_tasks: Tasks whose accuracy must be preserved.
        args: Training arguments.
        strategy: `single`, `joint`, `sequential` or `parallel`.
        rule: Alphas to evaluate and the rule that chooses one of them; by default, that of the patching functions.
        options: Options that most runs leave at their defaults.

    Raises:
        InputError: If an argument is invalid, as in the run.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path / "run", max_steps=2, warmup_steps=1, use_cpu=True)
        >>> found = plan(model_folder, [task], [other_task], args, rule=Rule(alphas=[0.5, 1.0]))
        >>> found.trainings[0].steps
        2
    """
    start = time.perf_counter()
    recipe = resolve(
        strategy,
        model,
        args,
        patching_tasks=patching_tasks,
        supported_tasks=supported_tasks,
        rule=rule or Rule(alphas=DEFAULT_ALPHAS),
        options=options,
    )
    with stages([*OPENING, "measure"]):
        run = prepare(recipe)
        return _plan(run, time.perf_counter() - start)


def _plan(run: PatchRun, opening_seconds: float) -> Plan:
    recipe = run.recipe
    train = train_splits(recipe)
    trainings = trainings_of(recipe, train)
    begin_stage("measure", "the speed of training and evaluation on a sample")
    zero_shot, speed = sample_zero_shot(run)
    pending = [training for training in trainings if not training.args.freeze_tower and training.steps]
    seconds, timed = 0.0, 0
    if pending and not _all_trained(run):
        tasks = [task for task in recipe.trained_tasks if task.name in pending[0].tasks]
        seconds, timed = time_steps(run, pending[0], tasks)
    method = method_costs(run, train)
    return Plan(
        run=run,
        train=train,
        zero_shot=zero_shot,
        trainings=trainings,
        opening_seconds=opening_seconds,
        seconds_per_step=seconds,
        timed_steps=timed,
        images_per_second=speed,
        num_images=images_to_evaluate(run),
        method=method,
        disk={**bytes_on_disk(run, trainings, train), **method.disk},
        progress=describe_progress(run),
        concerns=concerns(run, train, trainings, zero_shot),
    )


def _all_trained(run: PatchRun) -> bool:
    folders = fine_tuned_folders(run)
    return bool(folders) and all(folder.theta_1.exists() for folder in folders.values())
