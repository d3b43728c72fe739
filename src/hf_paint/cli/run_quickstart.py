"""`hf-paint quickstart`: patch a toy CLIP on handwritten digits, end to end and offline."""

import sys
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from numpy.typing import NDArray
from PIL import Image as PILImage
from transformers import pipeline

from hf_paint.cli.outcome import report
from hf_paint.errors import InputError
from hf_paint.patching.options import PatchOptions, PatchResult
from hf_paint.patching.single import patch_single
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.tables import FINE_TUNED
from hf_paint.tasks.parquet_tasks import write_parquet_task
from hf_paint.tasks.rendering import rendered_task
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments


TOY = files("hf_paint") / "toy_clip"
NUM_RENDERED = 720
NUM_TEST_DIGITS = 500

INTRODUCTION = """\
The base is a toy CLIP with under a million parameters for 32x32 images, trained on drawn shapes, words and typeset
numbers. It is open-vocabulary within this small world and has never seen handwriting. This run shows how patching
works, not how well it works on a real CLIP.

  patching task    digits: real handwritten digits from scikit-learn
  supported tasks  shapes, words: drawn images like the training images
  transfer tasks   unseen_shapes, unseen_words: prompts that never occur in training
"""


def quickstart(output_dir: str | Path) -> PatchResult:
    """Patch the toy CLIP on the handwritten digits of scikit-learn and print the results.

    Args:
        output_dir: Path to the run folder; data sets are written to its subfolder `data/`.

    Returns:
        The result of `patch_single`.

    Raises:
        InputError: If scikit-learn is not installed, or the folder contains a different run.
    """
    sys.stdout.write(f"{INTRODUCTION}\n")
    result, digits = _run(Path(output_dir))
    _report(result, digits)
    return result


def _run(folder: Path) -> tuple[PatchResult, Task]:
    """Write the data sets, patch the toy CLIP, and return the result and the patching task."""
    data = RunFolder(folder).data
    digits = _digits(data)
    shapes, words, unseen_shapes, unseen_words = (
        _rendered(data, name) for name in ("shapes", "words", "unseen_shapes", "unseen_words")
    )
    with as_file(TOY) as toy:
        result = patch_single(
            str(toy),
            digits,
            [shapes, words],
            _arguments(folder),
            selection="supported_within",
            tolerance=0.01,
            options=PatchOptions(transfer_tasks=[unseen_shapes, unseen_words]),
        )
    return result, digits


def _arguments(folder: Path) -> PaintTrainingArguments:
    return PaintTrainingArguments(
        output_dir=str(folder),
        learning_rate=3e-4,
        max_steps=400,
        warmup_steps=40,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=256,
        save_steps=200,
        logging_steps=100,
        seed=0,
        use_cpu=True,
    )


def _digits(folder: Path) -> Task:
    """Write scikit-learn's 1797 digits, 8x8 pixels each, as a task."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError("The quickstart needs scikit-learn's digits: pip install 'hf-paint[quickstart]'.") from error
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    small = (digits.images[order] * (255 / 16)).astype(np.uint8)
    images = [PILImage.fromarray(image).resize((32, 32), PILImage.Resampling.BICUBIC) for image in small]
    labels = digits.target[order]
    rows = {"test": slice(0, NUM_TEST_DIGITS), "train": slice(NUM_TEST_DIGITS, None)}
    template = 'a photo of the number: "{}".'
    parts = {split: (images[part], labels[part]) for split, part in rows.items()}
    return _write_task(folder, "digits", parts, class_names=list("0123456789"), templates=[template])


def _rendered(folder: Path, name: str) -> Task:
    """Draw the images of a task, with a different seed for each split."""
    parts = {}
    for seed, split in enumerate(("validation", "test")):
        pixels, labels, class_names, templates = rendered_task(name, NUM_RENDERED, seed)
        parts[split] = ([PILImage.fromarray(image) for image in pixels], labels)
    return _write_task(folder, name, parts, class_names=class_names, templates=templates)


def _write_task(
    folder: Path,
    name: str,
    parts: dict[str, tuple[list[PILImage.Image], NDArray[np.int64]]],
    *,
    class_names: Sequence[str],
    templates: Sequence[str],
) -> Task:
    """Write the splits as parquet files, the format for user data sets."""
    features = Features({"image": Image(), "label": ClassLabel(names=list(class_names))})

    def make_rows(split: str) -> Dataset:
        images, labels = parts[split]
        return Dataset.from_dict({"image": images, "label": labels.tolist()}, features=features)

    files = {split: folder / f"{name}-{split}.parquet" for split in parts}
    splits = {"train": "train"} if "train" in parts else {"train": None, "validation": "validation"}
    return write_parquet_task(files, make_rows, {"name": name, "templates": templates, "splits": splits})


def _report(result: PatchResult, digits: Task) -> None:
    """Print the outcome, then use the patched model without hf_paint."""
    patched = result.patched
    write = sys.stdout.write
    report(result.outcome, result.curve, result.run_folder, end=FINE_TUNED)
    classify = pipeline("zero-shot-image-classification", model=str(patched), device="cpu")
    [row] = Dataset.from_parquet(dict(digits.data_files or {})["test"]).select([0])
    write(f"\nA handwritten {row['label']}, seen by pipeline('zero-shot-image-classification', model='{patched}'):\n")
    answers = classify(
        row["image"].convert("RGB"), candidate_labels=list("0123456789"), hypothesis_template=digits.templates[0]
    )
    write("".join(f"  {answer['label']}: {answer['score']:.3f}\n" for answer in answers[:3]))
    write(f"\nmodel and card: {patched}\nreport: {result.report}\n")
