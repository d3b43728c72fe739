"""What a merging method costs before the sweep: the images that it measures, and the bytes that it keeps of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from hf_paint.data.splits import Split
from hf_paint.evaluation.prepared_task import num_images
from hf_paint.merging.base import Measured
from hf_paint.merging.layer_inputs import num_gram_entries
from hf_paint.patching.measurements import BATCH_SIZE, ENTROPY_BATCH_SIZE
from hf_paint.patching.run import PatchRun
from hf_paint.patching.training_pixels import share_of


ENDS = ("theta_0", "theta_1")
"""The models whose Fisher information is estimated."""
FLOAT32 = 4
"""Bytes of a number in the files that a method keeps."""
BACKWARD, GRAMS, FISHER = 3.0, 4.0, 7.0
"""Time of an image in evaluations of an image: forwards and backwards; with the products of the inputs of every layer;
and with a gradient of its own. On one CPU core, a ViT-B/32 took 2.5, 5.0 and 5.7, and a model of 3 million parameters
3.5, 3.1 and 7.9."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodCosts:
    """What a method costs before the sweep.

    Attributes:
        num_images: Number of images that pass through the image tower, at most.
        evaluations: How many evaluations of an image take as long.
        disk: What is kept in the run folder -> bytes.
    """

    num_images: int
    evaluations: float
    disk: Mapping[str, int]


def method_costs(run: PatchRun, train: Mapping[str, Split]) -> MethodCosts:
    """Return what the method of a run costs before the sweep.

    Args:
        run: The run.
        train: Task -> train split, for all tasks whose training images the run reads.
    """
    measured, number = run.method.measured(run.recipe.num_models), run.recipe.num_models
    patching = [task for task in run.tasks if task.role == "patching"]
    scored = patching if measured.scored == "patching" else run.tasks
    images = [
        (1.0, measured.scores * num_images(scored, "validation")),
        (BACKWARD, (measured.losses * BATCH_SIZE + measured.entropies * ENTROPY_BATCH_SIZE) * len(patching)),
        (GRAMS, _drawn(run, train, measured.grams) * (1 if run.recipe.strategy == "parallel" else number)),
        (FISHER, _drawn(run, train, measured.fisher) * len(ENDS)),
    ]
    return MethodCosts(
        num_images=sum(count for _, count in images),
        evaluations=sum(cost * count for cost, count in images),
        disk=_kept(run, measured),
    )


def _drawn(run: PatchRun, train: Mapping[str, Split], number: int) -> int:
    """Return how many training images of all patching tasks are drawn for `number` images for each model.

    With `strategy: parallel`, each task has a model of its own, which passes over its images alone.
    """
    tasks = [task for task in run.tasks if task.role == "patching"]
    share = number if run.recipe.strategy == "parallel" else share_of(number, tasks)
    rows = (train[task.task.name].rows if task.task.name in train else () for task in tasks)
    streams = (task.task.streaming for task in tasks)
    return sum(share if stream else min(share, len(own)) for own, stream in zip(rows, streams, strict=True))


def _kept(run: PatchRun, measured: Measured) -> dict[str, int]:
    sizes = {}
    if measured.grams:
        task = next(task for task in run.tasks if task.images)
        pixels = task.transform.normalize(next(iter(task.images.values())).__getitems__([0])["pixel_values"])
        entries = num_gram_entries(run.base.tower(), pixels)
        sizes["inputs of layers, until the models are merged"] = FLOAT32 * entries * run.recipe.num_models
    if measured.fisher:
        entries = sum(x.numel() for x in run.base.tower().parameters())
        sizes["Fisher information"] = FLOAT32 * entries * len(ENDS)
    return sizes
