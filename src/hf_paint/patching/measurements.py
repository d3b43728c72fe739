"""What a method measures in a run: scores and losses on validation images, Fisher information on training images."""

import json
from collections import UserDict
from collections.abc import Mapping, MutableMapping, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call

from hf_paint.data.images import decode, stream_rows
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import score
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.files import save_atomically
from hf_paint.merging.fisher import estimate_fisher
from hf_paint.models.towers import ImageTower
from hf_paint.patching.run import PatchRun
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result


BATCH_SIZE = 64
"""Images of a batch on which the coefficients of a soup take a step, and which are decoded at once."""


class RunBench:
    """The measurements of one run.

    Args:
        run: The run, whose tasks are prepared.
    """

    def __init__(self, run: PatchRun) -> None:
        self.run = run
        self.scores: MutableMapping[str, float] = KeptScores(run.folder.scores, write=run.folder.write)
        self.device = run.args.device
        self._generator = np.random.default_rng(run.args.seed)
        self._evaluator = cast(Evaluator, None)

    def score(self, theta: Mapping[str, Tensor], rule: str) -> float:
        """Return how good weights are on the validation images: of the patching tasks, or by the selection rule."""
        if self._evaluator is None:
            self._evaluator = self.run.evaluator(theta)
        results = self._results(theta, 1.0, rule)
        if rule == "patching":
            return float(AlphaCurve(results).mean_accuracy(1.0, "patching", "validation"))
        return self.run.score(AlphaCurve([*self._before, *results]), 1.0)

    def loss(self, theta: Mapping[str, Tensor]) -> Tensor:
        """Return the mean cross-entropy over the patching tasks of a random batch of validation images each."""
        losses = []
        for task in self._tasks("patching"):
            images = task.images["validation"]
            drawn = self._generator.integers(len(images), size=BATCH_SIZE)
            batch = {key: value.to(self.device) for key, value in images.__getitems__(drawn.tolist()).items()}
            pixels = task.transform.normalize(batch["pixel_values"])
            embeds = functional_call(self._tower, dict(theta), kwargs={"pixel_values": pixels}).image_embeds
            losses.append(task.head.to(self.device).loss(embeds, batch["labels"]))
        return torch.stack(losses).mean()

    def fisher(self, name: str, theta: Mapping[str, Tensor], *, num_images: int, seed: int) -> dict[str, Tensor]:
        """Return the mean Fisher information over the patching tasks, estimated once and kept in the run folder."""
        path = self.run.folder.fisher(name)
        made = path.exists()
        PartialState().wait_for_everyone()  # all look before one of them makes it
        if not made:
            tower = self.run.tower_with(theta)
            tasks = [task for task in self.run.tasks if task.role == "patching"]
            found = []
            for task in tasks:
                batches = self._training_pixels(task, -(-num_images // len(tasks)), seed)
                found.append(estimate_fisher(tower, task.head.to(self.device), batches, seed=seed))
            mean = {key: (sum(f[key] for f in found[1:]) + found[0][key]).cpu() / len(found) for key in found[0]}
            if self.run.folder.write:
                save_atomically(path, partial(save_file, mean))
            PartialState().wait_for_everyone()
        return load_file(path)

    @cached_property
    def _tower(self) -> ImageTower:
        return self.run.tower_with(self.run.theta_0)

    @cached_property
    def _carrier(self) -> nn.Module:
        return self._evaluator.carrier(self.run.tower())

    @cached_property
    def _before(self) -> list[Result]:
        return self._results(self.run.theta_0, 0.0, "selection")

    def _tasks(self, rule: str) -> list[PreparedTask]:
        roles = ("patching", "supported") if rule == "selection" else ("patching",)
        return [task for task in self.run.tasks if task.role in roles and "validation" in task.images]

    def _results(self, theta: Mapping[str, Tensor], alpha: float, rule: str) -> list[Result]:
        self._carrier.load_state_dict(dict(theta), strict=False)
        results = []
        for task in self._tasks(rule):
            scores = score(self._evaluator.predict(self._carrier, task, "validation"), task, "validation")
            result = Result(alpha=alpha, task=task.task.name, role=task.role, split="validation", **scores.to_dict())
            results.append(result)
        return results

    def _training_pixels(self, task: PreparedTask, num_images: int, seed: int) -> Sequence[Tensor]:
        """Return normalised pixels of training images, drawn at random, or the first of a stream."""
        split = load_splits(task.task, ("train",))["train"]
        if task.task.streaming:
            drawn = [row[task.task.image_column] for row in islice(stream_rows(split), num_images)]
        else:
            order = np.random.default_rng(seed).permutation(len(split.rows))[:num_images]
            drawn = [decode(split, int(index)) for index in order]
        pixels = torch.stack([task.transform.resize_and_crop(image) for image in drawn])
        return [task.transform.normalize(batch.to(self.device)) for batch in pixels.split(BATCH_SIZE)]


class KeptScores(UserDict[str, float]):
    """A mapping in a JSON file that holds every value as soon as it is set.

    Args:
        path: The file.
        write: Whether this process writes.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        super().__init__()
        self.path, self.write = path, write
        if path.exists():
            self.data = json.loads(path.read_text(encoding="utf-8"))

    def __setitem__(self, name: str, score: float) -> None:
        """Set a score, and write the file."""
        super().__setitem__(name, score)
        if self.write:
            save_atomically(self.path, self._save)

    def _save(self, path: Path) -> None:
        path.write_text(json.dumps(self.data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
