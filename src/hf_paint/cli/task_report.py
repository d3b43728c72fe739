"""The tables of `hf-paint tasks`: what the data of a task was read as."""

import sys
from collections.abc import Iterator, Sequence

from hf_paint.cli.tables import print_table
from hf_paint.data.image_summary import MODEL_SIZE, ImageSummary
from hf_paint.data.overlaps import Pair, Place
from hf_paint.data.summary import TaskSummary


NUM_SHOWN = 5
"""Number of classes at either end of a table, and of pairs of images in a list, unless all are asked for."""


def print_summary(summary: TaskSummary, *, everything: bool) -> None:
    """Print a summary as tables and lines.

    Args:
        summary: The summary.
        everything: Whether to print all classes and all pairs of images that repeat each other.
    """
    for line in _head(summary):
        sys.stdout.write(f"{line}\n")
    print_table(_count_table(summary, everything=everything))
    if summary.images is not None:
        for line in _describe_images(summary.images, everything=everything):
            sys.stdout.write(f"{line}\n")
    for warning in summary.warnings:
        sys.stdout.write(f"warning: {warning}\n")


def _head(summary: TaskSummary) -> Iterator[str]:
    task = summary.task
    place = task.data_dir or ", ".join(
        f"{split}: {files if isinstance(files, str) else ', '.join(files)}"
        for split, files in (task.data_files or {}).items()
    )
    yield f"task: {task.name}"
    yield f"data: {task.dataset}{f' ({place})' if place else ''}"
    yield f"columns: {', '.join(f'{column} ({what})' for column, what in summary.columns.items())}"
    for name, split in summary.splits.items():
        number = "a stream" if split.num_images is None else f"{split.num_images} images"
        yield f"{name}: {number}, {split.origin}"
    yield from (f"prompt: {prompt}" for prompt in summary.prompts)


def _count_table(summary: TaskSummary, *, everything: bool) -> list[list[str]]:
    """Return the images per class and split, the largest classes first."""
    splits, names = summary.splits, summary.class_names
    counts = [split.per_class for split in splits.values() if split.per_class]
    order = sorted(range(len(names)), key=lambda index: -sum(count[index] for count in counts))
    rows = [_row(summary, names[index], [index]) for index in order]
    if not everything and len(rows) > 2 * NUM_SHOWN + 1:
        middle = order[NUM_SHOWN:-NUM_SHOWN]
        rest = _row(summary, f"{len(middle)} more (--all lists them)", middle)
        rows = [*rows[:NUM_SHOWN], rest, *rows[-NUM_SHOWN:]]
    totals = ["-" if split.num_images is None else str(split.num_images) for split in splits.values()]
    extra = ["name in the data"] if summary.data_names else []
    return [["class", *extra, *splits], *rows, ["all", *([""] if extra else []), *totals]]


def _row(summary: TaskSummary, name: str, classes: Sequence[int]) -> list[str]:
    """Return the number of images of some classes in each split, `-` for a stream."""
    counts = [split.per_class for split in summary.splits.values()]
    numbers = [str(sum(count[index] for index in classes)) if count else "-" for count in counts]
    own = summary.data_names.get(name, name if name in summary.class_names else "")
    return [name, *([own] if summary.data_names else []), *numbers]


def _describe_images(images: ImageSummary, *, everything: bool) -> Iterator[str]:
    number = sum(images.modes.values())
    modes = ", ".join(f"{mode} {count}" for mode, count in images.modes.items())
    yield f"width: {_extent(images.widths)} pixels (least, median, greatest)"
    yield f"height: {_extent(images.heights)} pixels"
    yield f"smaller than {MODEL_SIZE} x {MODEL_SIZE}: {images.num_small} of {number}"
    yield f"modes: {modes or '-'}"
    yield from _describe_pairs(images.equal, "equal to an earlier image, byte for byte", everything=everything)
    yield from _describe_pairs(images.similar, "nearly the same as an image of another split", everything=everything)
    yield f"cannot be read: {len(images.unreadable)}"
    for image in images.unreadable:
        yield f"  {image.path or f'row {image.row}'} ({image.split}): {image.reason}"


def _extent(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _describe_pairs(pairs: Sequence[Pair], what: str, *, everything: bool) -> Iterator[str]:
    between = [pair for pair in pairs if pair.is_between_splits]
    same = len(pairs) - len(between)
    yield f"{what}: {len(pairs)}" + (f" ({len(between)} in another split, {same} in the same)" if same else "")
    shown = pairs if everything else [*between, *(pair for pair in pairs if not pair.is_between_splits)][:NUM_SHOWN]
    for pair in shown:
        yield f"  {_describe_place(pair.second)} = {_describe_place(pair.first)}"
    if len(pairs) > len(shown):
        yield f"  ... {len(pairs) - len(shown)} more (--all lists them)"


def _describe_place(place: Place) -> str:
    return f"{place} ({place.split})" if place.path else str(place)
