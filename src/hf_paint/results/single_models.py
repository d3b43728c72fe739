"""The fine-tuned models that a parallel run combines, each evaluated on the test images of its own task."""

from pathlib import Path

from hf_paint.results.alphas import Coefficients
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_files import SINGLE_MODELS


def alone(task: str) -> Coefficients:
    """Return the alpha of the model that was fine-tuned on one task: coefficient 1 for it, and 0 for the others."""
    return Coefficients({task: 1.0})


def read_single_models(folder: str | Path, curve: AlphaCurve) -> AlphaCurve:
    """Return the records of a run at `alone(task)`.

    Args:
        folder: Run folder.
        curve: Records of the run. A search has those of the single models among them; a merge has a file of its own.

    Raises:
        InputError: If a record is damaged.
    """
    return AlphaCurve.from_run(folder, name=SINGLE_MODELS) if (Path(folder) / SINGLE_MODELS).exists() else curve
