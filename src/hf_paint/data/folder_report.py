"""Say in one line what was read from a folder of pictures, and what was not."""

from collections.abc import Collection, Mapping, Sequence

from hf_paint.data.folder_files import File, Listing
from hf_paint.data.folder_splits import show
from hf_paint.errors import inform_once, warn_once
from hf_paint.tasks.task import Task


def report(
    task: Task,
    place: str,
    listing: Listing,
    rows: Mapping[str, Sequence[tuple[File, int]]],
    class_names: Sequence[str],
) -> None:
    """Log what was read, once per run; as a warning if anything was not read, or the splits differ in their classes.

    Args:
        task: The task.
        place: The folder, as the subject of a sentence.
        listing: All files.
        rows: Split -> pictures and labels.
        class_names: Names of the labels; empty if there is metadata.
    """
    counts = ", ".join(f"{len(own)} in {split}" for split, own in rows.items())
    total = sum(map(len, rows.values()))
    what = f"pictures ({counts}) of {len(class_names)} classes: {show(class_names)}"
    if not class_names:
        what = f"rows ({counts}), labelled by its metadata, not by its folders"
    lines = _describe_rest(listing, rows, class_names)
    message = " ".join([f"{place} of task '{task.name}' has {total} {what}.", *lines])
    (warn_once if lines else inform_once)(message)


def _describe_rest(
    listing: Listing, rows: Mapping[str, Sequence[tuple[File, int]]], class_names: Sequence[str]
) -> list[str]:
    read = {picture.path for own in rows.values() for picture, _ in own}
    unread = [picture.place for picture in listing.pictures if picture.path not in read]
    lines = []
    if unread:
        reason = "are in no split folder" if class_names else "are not listed in the metadata"
        lines.append(f"Not read, because they {reason}: {_count(unread, 'picture')}.")
    places = set() if class_names else {picture.place for own in rows.values() for picture, _ in own}
    if others := [name for name in listing.others if name not in places]:
        lines.append(f"Passed over, because they are hidden or no pictures: {_count(others, 'file')}.")
    bare = [folder for folder in folders_without_pictures(listing) if folder.rpartition("/")[2] not in class_names]
    if class_names and bare:
        lines.append(f"No classes, because they contain no pictures: {_count(bare, 'folder')}.")
    if class_names:
        lines += _describe_differences(rows, class_names)
    return lines


def _describe_differences(rows: Mapping[str, Sequence[tuple[File, int]]], class_names: Sequence[str]) -> list[str]:
    """Name the classes that some splits lack."""
    labels = {split: {label for _, label in own} for split, own in rows.items()}
    lines = []
    for split, own in labels.items():
        missing = [name for label, name in enumerate(class_names) if label not in own]
        if missing and -1 not in own:
            lines.append(f"Without pictures in {split}: {_count(missing, 'class')}.")
    return lines


def folders_without_pictures(listing: Listing) -> list[str]:
    """Return the folders that contain nothing, or only files that are no pictures."""
    parents = {name.rstrip("/").rpartition("/")[0] for name in listing.others} | {*listing.empty}
    paths = {picture.folders for picture in listing.pictures}
    used = {"/".join(path[:depth]) for path in paths for depth in range(len(path) + 1)}
    return sorted(folder for folder in parents - used if not folder.rpartition("/")[2].startswith("."))


def _count(names: Collection[str], noun: str) -> str:
    plural = noun if len(names) == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{len(names)} {plural} ({show(names)})"
