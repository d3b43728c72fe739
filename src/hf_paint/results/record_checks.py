"""What is wrong with records beside each other, with their per-image files, and with their details."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_paint.documents.arrays import read_array
from hf_paint.errors import InputError, one_line
from hf_paint.files import is_file, is_folder
from hf_paint.results.alphas import format_alpha
from hf_paint.results.details_log import whole_details
from hf_paint.results.json_lines import AGAIN


if TYPE_CHECKING:
    from hf_paint.results.records import Result


def correct_images(folder: Path, result: "Result") -> NDArray[np.bool_] | None:
    """Return whether each image of a record was classified correctly, shape (result.total,).

    Returns:
        The array. None if the record names no file, or the whole run has no per-image files.

    Raises:
        InputError: If the file is missing, or does not agree with the record.
    """
    try:
        return _read_correct(folder, result)
    except InputError as error:
        what = f"{result.task} ({result.split}) at alpha {format_alpha(result.alpha)}"
        raise InputError(f"The record of {what} in {folder} is damaged: {error}. {AGAIN}") from error


def _read_correct(folder: Path, result: "Result") -> NDArray[np.bool_] | None:
    if result.correct_file is None or not is_folder((path := folder / result.correct_file).parent):
        return None
    if not is_file(path):
        raise InputError(f"its file {result.correct_file} is missing")
    try:
        stored = read_array(path, mapped=True)
    except InputError as error:
        raise InputError(
            f"its file {result.correct_file} is damaged ({one_line(error.__cause__ or error)})"
        ) from error
    if stored.dtype != np.bool_ or stored.shape != (result.total,):
        raise InputError(f"its file {result.correct_file} does not hold {result.total} times true or false")
    correct: NDArray[np.bool_] = np.array(stored)
    if correct.sum() != result.correct:
        raise InputError(
            f"in its file {result.correct_file} {correct.sum()} instead of {result.correct} images are correct"
        )
    return correct


def contradictions(results: Mapping[int, "Result"]) -> dict[int, str]:
    """Return line number -> what is wrong, for records of the same evaluation that have different counts."""
    first: dict[object, int] = {}
    found: dict[int, str] = {}
    for number, result in results.items():
        before = first.setdefault((result.key, result.alpha, result.sample), number)
        if _counts(results[before]) != _counts(result):
            found |= dict.fromkeys((before, number), f"lines {before} and {number} contradict each other")
    return found


def without_images(results: Mapping[int, "Result"], folder: Path) -> dict[int, str]:
    """Return line number -> what is wrong, for records whose per-image file is missing or damaged."""
    found = {}
    for number, result in results.items():
        try:
            _read_correct(folder, result)
        except InputError as error:
            found[number] = str(error)
    return found


def without_details(results: Mapping[int, "Result"], folder: Path, *, write: bool) -> dict[int, str]:
    """Return line number -> what is wrong, for records of all images whose details are missing or damaged.

    Damaged details are removed from disk if `write` is true. A run of an earlier version has none, and needs none.
    """
    exact = {number: result for number, result in results.items() if result.exact}
    counts = {result.key: (result.total, result.correct) for result in exact.values()}
    known = whole_details(folder, counts, write=write)
    lost = (number for number, result in exact.items() if known is not None and result.key not in known)
    return dict.fromkeys(lost, "its details are lost")


def check_place(correct_file: str | None) -> None:
    """Check that a per-image file is inside of the run folder.

    Raises:
        ValueError: If it is not.
    """
    if correct_file is not None and (PurePath(correct_file).is_absolute() or ".." in PurePath(correct_file).parts):
        raise ValueError(f"`examples` is '{correct_file}', which is not in the run folder")


def _counts(result: "Result") -> tuple[object, ...]:
    types = {kind: tuple(pair) for kind, pair in (result.answer_types or {}).items()}
    return result.correct, result.total, result.attack_success, types
