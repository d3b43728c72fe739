"""The answers of a patch to pictures and words that the user brings, at any alpha and at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.errors import InputError
from hf_paint.merging.path import Line, WeightPath
from hf_paint.models.classifier import ClassificationHead, ClassifierOutput, tower_of, weights_of
from hf_paint.models.task_file import TaskClasses
from hf_paint.models.zero_shot import build_listed_head
from hf_paint.report.live_tower import LiveTower
from hf_paint.results.alphas import Alpha, canonical
from hf_paint.tasks.rgb import to_rgb


TEMPLATE = "a photo of a {}."
"""Prompt for words of which nothing else is known (Radford et al., 2021, Section 3.1.4)."""
RECENT = 256
"""Number of embeddings that are kept."""
RECENT_HEADS = 20


@dataclass(frozen=True, slots=True)
class Pixels:
    """A picture as the model sees it: `pixel_values` (1, 3, height, width), which the digest identifies."""

    digest: bytes
    pixel_values: Tensor = field(compare=False)


class LivePatch:
    """A model before and after patching, and everything between, for one picture at a time.

    The weights of all models stay in memory in float32, and theta_alpha is computed while the picture is embedded (see
    `LiveTower`). What was computed once is kept: the embedding of a picture at an alpha, and those of the words.

    Args:
        model: Model before patching, in float32 on the CPU. It must not be used elsewhere.
        processor: Processor of the model.
        path: Path from the image tower's weights in `model`; by default, only alpha 0 exists.
        head: Trained head of theta_0, if `path` includes one.
        tasks: Tasks of the run. For the words and templates of one of them, the head is the one that the run measured:
            the trained head for tasks that use it, and the best of several names per class.

    Example:
        >>> live = LivePatch(model, processor)
        >>> picture = live.pixels(Image.new("RGB", (32, 32)))
        >>> live.probabilities(picture, ["cat", "dog"]).shape
        torch.Size([2])
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        path: WeightPath | None = None,
        *,
        head: ClassificationHead | None = None,
        tasks: Sequence[TaskClasses] = (),
    ) -> None:
        theta_0 = weights_of(model, head)
        self.model: PreTrainedModel = model
        self.processor: ProcessorMixin = processor
        self._trained = head is not None
        self._tasks = {(task.class_names, task.templates): task for task in reversed(tasks)}  # the first one counts
        self._tower = LiveTower(tower_of(model, head), Line(theta_0, theta_0) if path is None else path)
        self._outputs: dict[tuple[Pixels, Alpha], ClassifierOutput] = {}  # the one used last is the last
        self._head = lru_cache(RECENT_HEADS)(self._build_head)

    def pixels(self, image: Image.Image) -> Pixels:
        """Return a picture as the model sees it, turned as its EXIF orientation says.

        Raises:
            InputError: If the picture has no clear RGB.
        """
        upright = to_rgb(ImageOps.exif_transpose(image))
        pixel_values: Tensor = self.processor.image_processor(upright, return_tensors="pt")["pixel_values"]
        return Pixels(blake2b(pixel_values.numpy().tobytes()).digest(), pixel_values)

    @torch.inference_mode()
    def probabilities(
        self,
        image: Image.Image | Pixels,
        words: Sequence[str],
        templates: str | Sequence[str] = TEMPLATE,
        alpha: Alpha = 0.0,
        *,
        rough: bool = False,
    ) -> Tensor:
        """Return the probability of each word, (num_words,), as `pipeline("zero-shot-image-classification")` does.

        Args:
            image: A picture, or its `pixels`.
            words: Candidates.
            templates: Prompts, each with one `{}`. The embeddings of several are averaged.
            alpha: Position on the path; the number of steps after sequential patching, the coefficient of each task
                after parallel patching.
            rough: Multiply in bfloat16 unless the exact answer is known already. Where `multiplies_faster`, this takes
                about half the time, and changes a probability by up to some hundredths.

        Raises:
            InputError: If there are no words, a template does not have exactly one `{}`, or the picture has no clear
                RGB.
        """
        task = self.task(words, templates)
        pixels = self.pixels(image) if isinstance(image, Image.Image) else image
        output = self._output(pixels, canonical(alpha), rough=rough)
        if self.uses_trained_head(task) and output.logits is not None:
            logits = output.logits[:, torch.tensor(task.head_rows)].amax(dim=-1)
        else:
            logits = self._head(task.class_names, task.templates)(output.image_embeds)
        return logits[0].softmax(dim=-1)

    def task(self, words: Sequence[str], templates: str | Sequence[str] = TEMPLATE) -> TaskClasses:
        """Return the run's task with these classes and prompts, or a new one.

        Raises:
            InputError: If there are no words, or a template does not have exactly one `{}`.
        """
        names, prompts = tuple(words), (templates,) if isinstance(templates, str) else tuple(templates)
        if not names:
            raise InputError("There are no words to choose from. Pass at least one.")
        for prompt in prompts:
            if prompt.count("{}") != 1:
                raise InputError(f"A prompt must have exactly one {{}}, where the word goes; got '{prompt}'.")
        if not prompts:
            raise InputError(f"There is no prompt. Pass one, like '{TEMPLATE}'.")
        new = TaskClasses(name="words", role="patching", kind="classification", class_names=names, templates=prompts)
        return self._tasks.get((names, prompts), new)

    def uses_trained_head(self, task: TaskClasses) -> bool:
        """Return whether the trained head of the run answers for a task."""
        return self._trained and task.head_rows is not None

    def _output(self, pixels: Pixels, alpha: Alpha, *, rough: bool) -> ClassifierOutput:
        known = self._outputs.pop((pixels, alpha), None)
        if known is None:
            known = self._tower.embed(pixels.pixel_values, alpha, rough=rough)
            if rough:
                return known
        self._outputs[pixels, alpha] = known
        while len(self._outputs) > RECENT:
            self._outputs.pop(next(iter(self._outputs)), None)
        return known

    def _build_head(self, class_names: tuple[str, ...], templates: tuple[str, ...]) -> nn.Module:
        known = (class_names, templates) in self._tasks  # the run left the heads of its tasks in the cache on disk
        cache_dir = default_cache_dir() if known else None
        task = self.task(class_names, templates)
        return build_listed_head(self.model, self.processor.tokenizer, task, cache_dir=cache_dir)
