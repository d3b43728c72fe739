"""The options of a patching run, and its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
    """Options that most runs leave at their defaults.

    Attributes:
        transfer_tasks: Tasks that are evaluated but not used for selection, to measure broad transfer.
        shift_tasks: Tasks that are evaluated but not used for selection, to measure robustness to distribution shift.
        model_revision: The branch, tag or commit of the model on the Hub.
        save_variants: Save the model of every alpha too.
        save_dtype: The dtype of the saved models, such as `bfloat16`; the dtype of the base by default.
        base_model_id: The id on the Hub of a base that is loaded from a folder, for the card.
        precision: The arithmetic of the evaluations; `auto` is `bf16` if it agrees with `fp32` on a sample and is
            faster.
        sweep: `full` evaluates every alpha on every image, `adaptive` only where neighbouring alphas disagree.
        verify: With `sweep="adaptive"`: sweep in full too, and report the errors of the adaptive sweep.
        base_fingerprint: The expected fingerprint of the image tower of the base; another base is refused.
        processor: The processor of a model in memory that was not loaded with one.
        method: How fine-tuned weights become theta_1, and the path from theta_0 to theta_1: a name, or
            `{name: {option: value}}`.
        ingredients: The fine-tunings that a method averages, each a mapping from training fields to values. Lists
            stand for all combinations, such as `{"learning_rate": [1e-5, 3e-5], "seed": [0, 1]}`.
        extrapolate: Allow alphas outside [0, 1].
        thetas: Fine-tuned models to use instead of training, each a folder or an id on the Hub: task -> model in
            parallel patching, else name -> model.
        search: Parallel patching: how the coefficients are searched, `cobyqa` or `random`.
        search_budget: Parallel patching: the number of combinations to evaluate.
        baseline: (reference, shift) accuracies of models trained only on the reference, for the effective robustness
            of a run with shift tasks.
        num_examples: Images of each task to plot before and after patching, for the card; 0 for none.
        compare_ensemble: Evaluate the output-space ensemble of theta_0 and theta_1 at every alpha too.
        num_orders: Sequential patching: the number of random orders of the tasks to run and average. With 1, the tasks
            are patched in the given order.
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
    ingredients: Sequence[Mapping[str, object]] = ()
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
    """The result of a patching run.

    Attributes:
        alpha: The chosen alpha, or task -> coefficient after sequential and parallel patching; None with
            `selection="none"`.
        curve: The accuracy of every task at every alpha.
        run_folder: The folder of the run.
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
