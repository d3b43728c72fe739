"""What goes into a patching run beside the method, and what comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.evaluation.examples import NUM_EXAMPLES
from hf_paint.evaluation.precision import PrecisionChoice
from hf_paint.merging.registry import MethodLike
from hf_paint.results.alphas import Alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.search import SearchMethod
from hf_paint.tasks.task import Task


Selection = Literal["mean", "supported_within", "none"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchOptions:
    """What a patching run needs now and then.

    Attributes:
        transfer_tasks: Tasks that are evaluated and take no part in the selection, for broad transfer.
        shift_tasks: The same, for distribution shift.
        model_revision: The branch, tag or commit of the model on the Hub.
        save_variants: Also save the model of every alpha.
        save_dtype: The dtype of the saved models, such as `bfloat16`; the base's by default.
        base_model_id: The id of the base on the Hub, for the card, when the model is a folder.
        precision: The arithmetic of the evaluations; `auto` is `bf16` where it agrees with `fp32` on a sample.
        sweep: `full` evaluates every alpha on every image, `adaptive` only where neighbours disagree.
        verify: With `sweep="adaptive"`: also sweep in full, and say how far off the adaptive sweep was.
        base_fingerprint: Refuse a base whose image tower has another fingerprint.
        processor: The processor, when the model is passed as an object that was not read from anywhere.
        method: How fine-tuned weights become theta_1, and what is between theta_0 and theta_1: a name, or
            `{name: {option: value}}`.
        ingredients: For methods that average: training field -> value, for each fine-tuning; lists stand for all
            combinations, such as `{"learning_rate": [1e-5, 3e-5], "seed": [0, 1]}`.
        extrapolate: Allow alphas outside [0, 1].
        thetas: Models that are fine-tuned already, a folder or an id on the Hub each: in parallel patching task ->
            model, else name -> model.
        search: Parallel patching: how the coefficients are searched, `cobyqa` or `random`.
        search_budget: Parallel patching: how many combinations are evaluated.
        baseline: (reference, shift) accuracies of models that were trained on the reference alone, for the effective
            robustness of a run with shift tasks.
        num_examples: How many images of each task are plotted before and after patching, for the card; 0 for none.
        compare_ensemble: Also evaluate the output-space ensemble of theta_0 and theta_1 at every alpha.
        num_orders: Sequential patching: how many random orders of the tasks are run and averaged; with 1 the tasks
            are patched in the order in which they are given.
    """

    transfer_tasks: Sequence[Task] = ()
    shift_tasks: Sequence[Task] = ()
    model_revision: str = "main"
    save_variants: bool = False
    save_dtype: str | None = None
    base_model_id: str | None = None
    precision: PrecisionChoice = "fp32"
    sweep: Literal["full", "adaptive"] = "full"
    verify: bool = False
    base_fingerprint: str | None = None
    processor: ProcessorMixin | None = None
    method: MethodLike = "interpolate"
    ingredients: Sequence[Mapping[str, Any]] = ()
    extrapolate: bool = False
    thetas: Mapping[str, str] = field(default_factory=dict)
    search: SearchMethod = "cobyqa"
    search_budget: int = 50
    baseline: Sequence[tuple[float, float]] = ()
    num_examples: int = NUM_EXAMPLES
    compare_ensemble: bool = False
    num_orders: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchResult:
    """A patched model and how it came about.

    Attributes:
        alpha: The chosen alpha, or task -> coefficient after sequential and parallel patching; None with
            `selection="none"`.
        curve: Accuracy of every task at every alpha.
        run_folder: Where everything was written.
        model: The patched model as it was saved, on the CPU; None without a chosen alpha.
    """

    alpha: Alpha | None
    curve: AlphaCurve
    run_folder: Path
    model: PreTrainedModel | None

    @property
    def patched(self) -> Path:
        """The folder of the patched model."""
        return RunFolder(self.run_folder).patched
