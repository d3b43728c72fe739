"""Gram matrices of the inputs of layers: measured once for each model, and kept in a file until models are merged."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor
from tqdm.auto import tqdm

from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.files import remove_any
from hf_paint.fingerprints import fingerprint_values, fingerprint_weights
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.layer_inputs import collect_grams
from hf_paint.models.fingerprinted import FingerprintedFile, is_whole, save_fingerprinted
from hf_paint.patching.processes import make_once
from hf_paint.patching.run import PatchRun
from hf_paint.patching.training_pixels import share_of, training_pixels


BATCH_SIZE = 16
"""Number of images per batch. The inputs of a layer are copied in float64: 150 MB for 16 images of ViT-L/14 at 336."""


def stored_grams(run: PatchRun, name: str, theta: Weights, *, num_images: int, seed: int) -> Weights:
    """Return the Gram matrices of a model on training images of its task, each of which is read when it is accessed.

    They are measured unless an interrupted run has already saved them. Files are named after the model and its
    weights, so the matrices of other weights are never used.

    Args:
        run: Patching run.
        name: Name of the model: that of its task with `strategy: parallel`.
        theta: Its weights, name -> tensor.
        num_images: Number of training images. With several tasks, each has an equal share.
        seed: Seed for drawing the images.
    """
    path = run.folder.grams / f"{fingerprint_values(name, fingerprint_weights(theta))}.safetensors"
    make_once(path, partial(_save, run, path, name, theta, num_images, seed), is_whole=partial(is_whole, path))
    return _SharedTensors(FingerprintedFile(path))


def _save(run: PatchRun, path: Path, name: str, theta: Weights, num_images: int, seed: int) -> None:
    tasks = _tasks_of(run, name)
    number = share_of(num_images, tasks)
    batches = [
        batch for task in tasks for batch in training_pixels(run, task, number, seed=seed, batch_size=BATCH_SIZE)
    ]
    bar = tqdm(batches, f"Inputs of {name}", unit="batch", leave=False, delay=1)
    grams = collect_grams(run.tower_with(theta), bar)
    if run.folder.write:
        remove_any(path)
        save_fingerprinted(path, _without_copies(grams))


def _tasks_of(run: PatchRun, name: str) -> list[PreparedTask]:
    """Return the tasks that a model was fine-tuned on."""
    tasks = [task for task in run.tasks if task.role == "patching"]
    return [task for task in tasks if task.task.name == name] if run.recipe.strategy == "parallel" else tasks


def _without_copies(weights: Weights) -> dict[str, Tensor]:
    """Return the tensors in float32, which halves the file, each once; its name lists all of its names."""
    names: dict[int, list[str]] = {}
    for name, x in weights.items():
        names.setdefault(id(x), []).append(name)
    return {" ".join(together): weights[together[0]].float().cpu() for together in names.values()}


class _SharedTensors(Mapping[str, Tensor]):
    """Tensors of which some have several names, by each of these names.

    Args:
        weights: Names of a tensor, joined by spaces -> tensor.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._keys = {name: key for key in weights for name in key.split()}

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[self._keys[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
