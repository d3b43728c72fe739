"""Measurements for merging methods: scores and losses on validation images, Fisher information on training images."""

import logging
from collections import UserDict
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from fractions import Fraction
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from hf_paint.data.images import decode, stream_rows
from hf_paint.data.splits import load_splits
from hf_paint.documents.shapes import read_shaped
from hf_paint.errors import InputError
from hf_paint.evaluation.prepared_task import PreparedTask, prepare_task
from hf_paint.files import remove_any, write_json
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.merging.base import ImageSplit, Loss, Method
from hf_paint.merging.fisher import estimate_fisher
from hf_paint.merging.interpolation import Weights
from hf_paint.models.losses import masked_cross_entropy
from hf_paint.models.sealed import load_sealed_file, save_sealed_file
from hf_paint.patching.method_choice import choose_method
from hf_paint.patching.processes import make_once
from hf_paint.patching.run import PatchRun
from hf_paint.results.identity import bind
from hf_paint.results.records import Role
from hf_paint.results.selection import Sides
from hf_paint.results.stored import AGAIN


logger = logging.getLogger(__name__)
BATCH_SIZE = 64
"""Number of images per batch, for learning soup coefficients and for estimating Fisher information."""


class RunMeasurements:
    """Measurements for the merging method of a run.

    Args:
        run: Patching run with prepared tasks.

    Attributes:
        scores: Scores of averaged models, keyed by the model names joined with " + "; saved in the run folder.
        device: Device of the run.
    """

    def __init__(self, run: PatchRun) -> None:
        self.run = run
        self.scores: MutableMapping[str, float] = StoredScores(run.folder.scores, write=run.folder.write)
        self.device = run.args.device
        self._scorer: _Scorer | None = None

    def score(self, theta: Weights, rule: str) -> float:
        """Score weights on the validation images.

        Args:
            theta: Mapping from tensor name to weight.
            rule: `patching` for the mean accuracy of the patching tasks, `selection` for the run's selection rule.
        """
        if self._scorer is None:
            self._scorer = _Scorer(self.run, theta)
        return self._scorer.patching(theta) if rule == "patching" else self._scorer.by_rule(theta)

    def choose(self, methods: Mapping[str, Method], thetas: Mapping[str, Weights]) -> Method:
        """Return the merge of `thetas` that does best on the validation images; see `choose_method`."""
        return choose_method(self.run, methods, thetas, self)

    def losses(self, images: ImageSplit = "validation") -> Loss:
        """Return a differentiable loss, called as `loss(weights, beta)`, that draws a new random batch on each call.

        The loss is the cross-entropy of `softmax(beta * logits)` on a batch of images, averaged over the patching
        tasks. The batches depend only on the seed of the run.

        Args:
            images: Split from which the images are drawn.
        """
        generator = np.random.default_rng(self.run.args.seed)
        tower = self.run.tower_with(self.run.base.theta_0)
        tasks = _with_validation(self.run.tasks, "patching") if images == "validation" else self._on_train()

        def loss(theta: Weights, beta: Tensor | float = 1.0) -> Tensor:
            losses = []
            for task in tasks:
                source = task.images[images]
                indices = generator.integers(len(source), size=BATCH_SIZE).tolist()
                batch = {key: value.to(self.device) for key, value in source.__getitems__(indices).items()}
                pixels = task.transform.normalize(batch["pixel_values"])
                embeds = functional_call(tower, dict(theta), kwargs={"pixel_values": pixels}).image_embeds
                losses.append(tempered_loss(*task.head.to(self.device).compare(embeds, batch["labels"]), beta))
            return torch.stack(losses).mean()

        return loss

    def _on_train(self) -> list[PreparedTask]:
        """Return the patching tasks with the images of their train splits, which are decoded now."""
        tasks, base = [task.task for task in self.run.tasks if task.role == "patching"], self.run.base
        for task in tasks:
            if task.streaming:
                raise InputError(
                    f"Task '{task.name}' streams, so training images cannot be drawn from it at random. Set `images: "
                    "validation`, or remove `streaming`."
                )
        return [prepare_task(task, base.model, base.processor, role="patching", splits=("train",)) for task in tasks]

    def fisher(self, name: str, theta: Weights, *, num_images: int, seed: int) -> dict[str, Tensor]:
        """Return the Fisher information averaged over the patching tasks; it is estimated once and saved.

        Args:
            name: Name of the weights.
            theta: Mapping from tensor name to weight.
            num_images: Total number of training images over all tasks.
            seed: Seed for sampling images and labels.
        """
        path = self.run.folder.fisher(name)
        make_once(path, partial(self._save_fisher, path, theta, num_images, seed), is_whole=partial(_is_whole, path))
        information = load_sealed_file(path)
        bind(self.run.folder, f"fisher/{name}", fingerprint_weights(information))
        return information

    def _save_fisher(self, path: Path, theta: Weights, num_images: int, seed: int) -> None:
        tower = self.run.tower_with(theta)
        tasks = [task for task in self.run.tasks if task.role == "patching"]
        estimates = []
        for task in tasks:
            batches = self._training_pixels(task, -(-num_images // len(tasks)), seed)
            estimates.append(estimate_fisher(tower, task.head.to(self.device), batches, seed=seed))
        first, *others = estimates
        mean = {key: (sum(other[key] for other in others) + x).cpu() / len(estimates) for key, x in first.items()}
        if self.run.folder.write:
            remove_any(path)
            save_sealed_file(path, mean)

    def _training_pixels(self, task: PreparedTask, num_images: int, seed: int) -> Sequence[Tensor]:
        """Return batches of normalised pixels from random training images, or from the start of a stream."""
        split = load_splits(task.task, ("train",))["train"]
        if task.task.streaming:
            images = [row[task.task.image_column] for row in islice(stream_rows(split), num_images)]
        else:
            order = np.random.default_rng(seed).permutation(len(split.rows))[:num_images]
            images = [decode(split, int(index)) for index in order]
        pixels = torch.stack([task.transform.resize_and_crop(image) for image in images])
        return [task.transform.normalize(batch.to(self.device)) for batch in pixels.split(BATCH_SIZE)]


class _Scorer:
    """Scores different weights on validation images, reusing one model.

    Args:
        run: Patching run.
        theta: Weights for which `precision: auto` is resolved.
    """

    def __init__(self, run: PatchRun, theta: Weights) -> None:
        self._run = run
        self._evaluator = run.evaluator(theta)
        self._carrier = self._evaluator.carrier(run.base.tower())

    def patching(self, theta: Weights) -> float:
        """Return the mean accuracy of the patching tasks."""
        (accuracy,) = self._accuracies(theta, "patching")
        return float(accuracy)

    def by_rule(self, theta: Weights) -> float:
        """Return the score under the selection rule of the run."""
        side = Sides(*self._accuracies(theta, "patching", "supported"))
        return self._run.rule.score(side, side if self._run.rule.selection == "mean" else self._side_0)

    @cached_property
    def _side_0(self) -> Sides:
        """Accuracies of theta_0, of which `supported_within` reads only the supported one."""
        return Sides(Fraction(0), *self._accuracies(self._run.base.theta_0, "supported"))

    def _accuracies(self, theta: Weights, *roles: Role) -> list[Fraction]:
        """Return the unweighted mean accuracy over the tasks of each role."""
        self._carrier.load_state_dict(dict(theta), strict=False)
        groups = [_with_validation(self._run.tasks, role) for role in roles]
        return [sum(map(self._accuracy, tasks), Fraction(0)) / len(tasks) for tasks in groups]

    def _accuracy(self, task: PreparedTask) -> Fraction:
        correct = self._evaluator.predict(self._carrier, task, "validation").correct
        return Fraction(int(correct.sum()), len(correct))


def tempered_loss(logits: Tensor, labels: Tensor, beta: Tensor | float) -> Tensor:
    """Return the mean cross-entropy of `softmax(beta * logits)`; columns of minus infinity stay out of the softmax."""
    padding = logits.isneginf()  # beta would have no gradient if it were multiplied with infinity
    return masked_cross_entropy(beta * logits.masked_fill(padding, 0), labels, padding)


def _with_validation(tasks: Iterable[PreparedTask], role: Role) -> list[PreparedTask]:
    return [task for task in tasks if task.role == role and "validation" in task.images]


def _is_whole(path: Path) -> bool:
    """Return whether Fisher information can be read; otherwise, it is estimated again, which gives the same."""
    try:
        load_sealed_file(path)
    except InputError:
        logger.warning(f"{path} is damaged, so it is estimated again.")
        return False
    return True


class StoredScores(UserDict[str, float]):
    """A dictionary stored in a JSON file, which is rewritten whenever a value is set.

    Args:
        path: Path to the JSON file.
        write: Whether this process writes the file.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        super().__init__()
        self.path, self.write = path, write
        self.data = read_shaped(path, dict[str, float], advice=AGAIN) or {}

    def __setitem__(self, name: str, score: float) -> None:
        """Set a score and rewrite the file."""
        super().__setitem__(name, score)
        if self.write:
            write_json(self.path, self.data)
