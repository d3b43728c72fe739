"""What goes into a patching run beside the method, and what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import CLIPModel, CLIPProcessor

from hf_paint.curve import AlphaCurve
from hf_paint.evaluation import Precision
from hf_paint.tasks import Task


Selection = Literal["mean", "supported_within", "none"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchOptions:
    """What a patching run needs now and then.

    Attributes:
        transfer_tasks: Tasks that are evaluated and take no part in the selection, for broad transfer.
        shift_tasks: The same, for distribution shift.
        save_variants: Also save the model of every alpha.
        save_dtype: The dtype of the saved models, such as `bfloat16`; the base's by default.
        base_model_id: The id of the base on the Hub, for the card, when the model is a folder.
        precision: The arithmetic of the evaluations.
        base_fingerprint: Refuse a base whose image tower has another fingerprint.
        processor: The processor, when the model is passed as an object that was not read from anywhere.
    """

    transfer_tasks: Sequence[Task] = ()
    shift_tasks: Sequence[Task] = ()
    save_variants: bool = False
    save_dtype: str | None = None
    base_model_id: str | None = None
    precision: Precision = "fp32"
    base_fingerprint: str | None = None
    processor: CLIPProcessor | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchResult:
    """A patched model and how it came about.

    Attributes:
        alpha: The chosen alpha; None with `selection="none"`.
        curve: Accuracy of every task at every alpha.
        run_folder: Where everything was written.
        model: The patched model as it was saved; None without a chosen alpha.
    """

    alpha: float | None
    curve: AlphaCurve
    run_folder: Path
    model: CLIPModel | None
