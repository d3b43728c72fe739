"""Measurements for merging methods: scores, losses and entropies on images; Fisher information and inputs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from hf_paint.errors import InputError
from hf_paint.evaluation.prepared_task import PreparedTask, prepare_task
from hf_paint.files import remove_any
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.merging.base import AnySplit, ImageSplit, Loss, Method
from hf_paint.merging.fisher import estimate_fisher
from hf_paint.merging.interpolation import Weights
from hf_paint.models.fingerprinted import is_whole, load_fingerprinted, save_fingerprinted
from hf_paint.models.losses import entropies, masked_cross_entropy
from hf_paint.patching.grams import stored_grams
from hf_paint.patching.method_choice import choose_method
from hf_paint.patching.processes import make_once
from hf_paint.patching.run import PatchRun
from hf_paint.patching.stored_scores import StoredScores
from hf_paint.patching.training_pixels import share_of, training_pixels
from hf_paint.results.entropies import mean_of_sides
from hf_paint.results.identity import bind
from hf_paint.results.records import Role
from hf_paint.results.selection import Sides


BATCH_SIZE = 64
"""Number of images per batch, for learning soup coefficients and for estimating Fisher information."""
ENTROPY_BATCH_SIZE = 16
"""Number of images of each task per step of AdaMerging (Yang et al., 2024)."""


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
        self.device: torch.device = run.args.device
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
        outputs = self._outputs(images, BATCH_SIZE)

        def loss(theta: Weights, beta: Tensor | float = 1.0) -> Tensor:
            return torch.stack([tempered_loss(logits, labels, beta) for logits, labels in outputs(theta)]).mean()

        return loss

    def entropies(self, images: AnySplit = "validation") -> Callable[[Weights], Tensor]:
        """Return a differentiable function of weights: the entropy of predictions on a new random batch at each call.

        It is summed over the patching tasks, as in AdaMerging, and in nats. No label is read.

        Args:
            images: Split from which the images are drawn.
        """
        outputs = self._outputs(images, ENTROPY_BATCH_SIZE)
        return lambda theta: torch.stack([entropies(logits).mean() for logits, _ in outputs(theta)]).sum()

    def record(self, coefficients: Mapping[str, Mapping[str, float]]) -> None:
        """Save learned coefficients: name of a group of tensors -> model -> coefficient."""
        self.run.folder.save_coefficients(coefficients)

    def _outputs(self, images: AnySplit, size: int) -> Callable[[Weights], Iterator[tuple[Tensor, Tensor]]]:
        """Return a function of weights that yields logits and labels of a new random batch of each patching task."""
        generator = np.random.default_rng(self.run.args.seed)
        tower = self.run.tower_with(self.run.base.theta_0)
        tasks = self._on_train() if images == "train" else _with_split(self.run.tasks, "patching", images)

        def outputs(theta: Weights) -> Iterator[tuple[Tensor, Tensor]]:
            for task in tasks:
                source = task.images[images]
                indices = generator.integers(len(source), size=size).tolist()
                batch = {key: value.to(self.device) for key, value in source.__getitems__(indices).items()}
                pixels = task.transform.normalize(batch["pixel_values"])
                embeds = functional_call(tower, dict(theta), kwargs={"pixel_values": pixels}).image_embeds
                yield task.head.to(self.device).compare(embeds, batch["labels"])

        return outputs

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
        make_once(path, partial(self._save_fisher, path, theta, num_images, seed), is_whole=partial(is_whole, path))
        information = load_fingerprinted(path)
        bind(self.run.folder, f"fisher/{name}", fingerprint_weights(information))
        return information

    def _save_fisher(self, path: Path, theta: Weights, num_images: int, seed: int) -> None:
        tower = self.run.tower_with(theta)
        tasks = [task for task in self.run.tasks if task.role == "patching"]
        estimates = []
        for task in tasks:
            batches = training_pixels(self.run, task, share_of(num_images, tasks), seed=seed, batch_size=BATCH_SIZE)
            estimates.append(estimate_fisher(tower, task.head.to(self.device), batches, seed=seed))
        first, *others = estimates
        mean = {key: (sum(other[key] for other in others) + x).cpu() / len(estimates) for key, x in first.items()}
        if self.run.folder.write:
            remove_any(path)
            save_fingerprinted(path, mean)

    def grams(self, name: str, theta: Weights, *, num_images: int, seed: int) -> Weights:
        """Return the Gram matrices of a model on training images of its task; they are measured once and saved.

        Args:
            name: Name of the model: that of its task with `strategy: parallel`.
            theta: Mapping from tensor name to weight.
            num_images: Number of training images. With several tasks, each has an equal share.
            seed: Seed for drawing the images.
        """
        return stored_grams(self.run, name, theta, num_images=num_images, seed=seed)


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
        if self._run.rule.selection == "entropy":
            self._carrier.load_state_dict(dict(theta), strict=False)
            sides = [_with_split(self._run.tasks, role, "validation") for role in ("patching", "supported")]
            return -mean_of_sides([[self._entropy(task) for task in side] for side in sides])
        side = Sides(*self._accuracies(theta, "patching", "supported"))
        return self._run.rule.score(side, side if self._run.rule.selection == "mean" else self._side_0)

    @cached_property
    def _side_0(self) -> Sides:
        """Accuracies of theta_0, of which `supported_within` reads only the supported one."""
        return Sides(Fraction(0), *self._accuracies(self._run.base.theta_0, "supported"))

    def _accuracies(self, theta: Weights, *roles: Role) -> list[Fraction]:
        """Return the unweighted mean accuracy over the tasks of each role."""
        self._carrier.load_state_dict(dict(theta), strict=False)
        groups = [_with_split(self._run.tasks, role, "validation") for role in roles]
        return [sum(map(self._accuracy, tasks), Fraction(0)) / len(tasks) for tasks in groups]

    def _entropy(self, task: PreparedTask) -> float:
        entropies = self._evaluator.predict(self._carrier, task, "validation").relative_entropy
        if entropies is None:  # never, because no run of a multi-label task may choose by entropy
            raise ValueError(f"Task '{task.task.name}' has no entropies.")
        return float(np.mean(entropies, dtype=np.float64))

    def _accuracy(self, task: PreparedTask) -> Fraction:
        correct = self._evaluator.predict(self._carrier, task, "validation").correct
        return Fraction(int(correct.sum()), len(correct))


def tempered_loss(logits: Tensor, labels: Tensor, beta: Tensor | float) -> Tensor:
    """Return the mean cross-entropy of `softmax(beta * logits)`; columns of minus infinity stay out of the softmax."""
    padding = logits.isneginf()  # beta would have no gradient if it were multiplied with infinity
    return masked_cross_entropy(beta * logits.masked_fill(padding, 0), labels, padding)


def _with_split(tasks: Iterable[PreparedTask], role: Role, split: str) -> list[PreparedTask]:
    return [task for task in tasks if task.role == role and split in task.images]
