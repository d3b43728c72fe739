"""Names of the files that a run keeps for each image of an evaluation."""

from pathlib import Path

from hf_paint.results.alphas import Alpha, Coefficients, variant_name


def correct_file(task: str, split: str, alpha: Alpha, *, weights: str, exact: bool, sample: str | None = None) -> str:
    """Return the path, relative to the run folder, of the file that stores which images were classified correctly.

    Args:
        task: Name of the task.
        split: Split that was evaluated.
        alpha: Alpha of the model.
        weights: Fingerprint of the weights, which distinguishes combinations of coefficients.
        exact: Whether all images were evaluated.
        sample: Fingerprint of the images, if they are a sample of the split.
    """
    place = "combination" if isinstance(alpha, Coefficients) else variant_name(alpha)
    drawn = "" if sample is None else f"-sample-{sample[:8]}"
    return f"correct/{task}-{split}-{place}-{weights[:8]}{drawn}{'' if exact else '-adaptive'}.npy"


def predictions_file(correct_file: str) -> str:
    """Return the path, relative to the run folder, of the predictions that an adaptive sweep resumes from."""
    return f"predictions/{Path(correct_file).stem}.npz"
