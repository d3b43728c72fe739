"""What a demo shows: a patch, opened from a run folder or a model, and what its sliders mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Span, Steps, WeightPath
from hf_paint.models.classifier import ClassificationHead, weights_of
from hf_paint.models.task_file import TaskClasses
from hf_paint.models.towers import image_tower_weights
from hf_paint.report.live import LivePatch
from hf_paint.results.alphas import Alpha, Coefficients
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A slider: one for alpha, one for the number of steps, or one for the coefficient of each task.

    Attributes:
        label: Text at the slider.
        task: Task whose coefficient it sets; None if there is only one slider.
        low: Smallest value.
        high: Largest value.
        start: Value at the start, which is the one that was chosen.
    """

    label: str
    task: str | None
    low: float
    high: float
    start: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A patch to try out.

    Attributes:
        title: Name of the run or the model.
        text: What the sliders interpolate between, as a sentence.
        live: Answers at any alpha.
        knobs: Sliders; empty for a model of which no other state is known.
        tasks: Classes and prompts to offer, patching tasks first.
        curve: Measured accuracies, if any.
        run: Run folder, if it is a run.
    """

    title: str
    text: str
    live: LivePatch
    knobs: Sequence[Knob]
    tasks: Sequence[TaskClasses]
    curve: AlphaCurve | None = None
    run: RunFolder | None = None

    def alpha(self, values: Sequence[float]) -> Alpha:
        """Return the alpha that stands for the positions of the sliders."""
        tasks = [knob.task for knob in self.knobs if knob.task is not None]
        if tasks:
            return Coefficients(dict(zip(tasks, values, strict=True)))
        return values[0] if self.knobs else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Base:
    """The model before patching, in float32, with the trained head of theta_0 if the run trained one."""

    name: str
    model: PreTrainedModel
    processor: ProcessorMixin
    head: ClassificationHead | None = None

    @property
    def theta_0(self) -> Weights:
        """Weights of the image tower and the head, which share memory with the model."""
        return weights_of(self.model, self.head)

    def live(self, path: WeightPath | None, tasks: Sequence[TaskClasses]) -> LivePatch:
        """Return the answers along a path that starts here."""
        return LivePatch(self.model, self.processor, path, head=self.head, tasks=tasks)

    def check(self, fingerprint: object, patched: str) -> None:
        """Check that the image tower is the one that was patched.

        Raises:
            InputError: If the fingerprint of the image tower is another one.
        """
        own = fingerprint_weights(image_tower_weights(self.model))
        if fingerprint not in (None, own):
            raise InputError(
                f"{patched} was not made from {self.name}: the fingerprint of its image tower is {own}, expected "
                f"{fingerprint}. Pass the right one as --base."
            )


def sliders(path: WeightPath, chosen: Alpha | None, curve: AlphaCurve | None) -> list[Knob]:
    """Return the sliders of a path.

    Args:
        path: Path from theta_0.
        chosen: Chosen alpha, where the sliders start; by default, they start at the fine-tuned model.
        curve: Measured accuracies; a slider reaches as far as the alphas in them.
    """
    if isinstance(path, Steps):
        steps = len(path.models)
        label = f"steps: {', '.join(f'{n} {task}' for n, task in enumerate(path.models, 1))}"
        return [Knob(label=label, task=None, low=0.0, high=float(steps), start=float(steps))]
    alphas = () if curve is None else curve.alphas
    if isinstance(path, Span) and (len(path.models) > 1 or isinstance(chosen, Coefficients)):
        return [_coefficient(task, chosen, alphas) for task in path.models]
    start = 1.0 if chosen is None or isinstance(chosen, Coefficients) else chosen
    low, high = _range([start, *(alpha for alpha in alphas if not isinstance(alpha, Coefficients))])
    return [Knob(label="alpha", task=None, low=low, high=high, start=start)]


def _coefficient(task: str, chosen: Alpha | None, alphas: Sequence[Alpha]) -> Knob:
    start = chosen.get(task, 0.0) if isinstance(chosen, Coefficients) else 1.0 if chosen is None else chosen
    low, high = _range([start, *(alpha.get(task, 0.0) for alpha in alphas if isinstance(alpha, Coefficients))])
    return Knob(label=f"coefficient of {task}", task=task, low=low, high=high, start=start)


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(0.0, *values), max(1.0, *values)
