"""The `details.jsonl` of a run folder: written line by line, and read when a report asks for an evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hf_paint.documents.reading import parse_json
from hf_paint.documents.shapes import shaped
from hf_paint.errors import InputError, one_line
from hf_paint.results.alphas import format_alpha
from hf_paint.results.details import KEY, Counts, Details, Key, Line
from hf_paint.results.json_lines import AGAIN, append_line, drop_torn_line, keep_lines, read_lines
from hf_paint.results.run_files import DETAILS


if TYPE_CHECKING:
    from hf_paint.results.records import Result


class RunDetails:
    """The details of all exact evaluations of a run, read from its folder.

    Example:
        >>> from hf_paint.results.records import Result
        >>> details = RunDetails.of_run(tmp_path)  # the run of an earlier version has none
        >>> details.of(Result(alpha=0.0, task="mnist", role="patching", split="test", correct=9, total=10)) is None
        True
    """

    def __init__(self, lines: Mapping[Key, Line], path: Path) -> None:
        self._lines, self._path = lines, path

    @classmethod
    def of_run(cls, folder: str | Path) -> Self:
        """Read the details of a run; a folder without `details.jsonl` has none. Arrays are decoded when asked for.

        Raises:
            InputError: If a complete line is not a record.
        """
        path = Path(folder) / DETAILS
        return cls(dict(read_lines(path, _parse)) if path.exists() else {}, path)

    def of(self, result: "Result") -> Details | None:
        """Return the details of a record, or None if there are none.

        Args:
            result: Record of the run, from `AlphaCurve.get`. Records of the same weights under different alphas have
                the same details. A record of the output-space ensemble has its own.

        Raises:
            InputError: If the details are damaged.
        """
        if (line := self._lines.get(result.key)) is None:
            return None
        try:
            details = Details.from_dict(line)
            if details.counts != (result.total, result.correct):
                raise ValueError(f"they are of {details.counts[0]} images, {details.counts[1]} of them correct")
        except ValueError as error:
            what = f"{result.task} ({result.split}) at alpha {format_alpha(result.alpha)}"
            reason = one_line(error).removesuffix(".")
            raise InputError(f"The details of {what} in {self._path} are damaged: {reason}. {AGAIN}") from error
        return details


class DetailsLog:
    """Appends details to the `details.jsonl` of a run folder, each evaluation once.

    Args:
        folder: Run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DETAILS
        self._known: set[Key] = set()
        if self._path.exists():
            drop_torn_line(self._path)
            self._known = {key for key, _ in read_lines(self._path, _parse)}

    def append(self, result: "Result", details: Details) -> None:
        """Add the details of a record, unless a killed process already has."""
        if result.key not in self._known:
            append_line(self._path, details.to_json(result), sync=False)  # without them, a record is evaluated again
            self._known.add(result.key)


def whole_details(folder: Path, counts: Mapping[Key, Counts], *, write: bool) -> Mapping[Key, Counts] | None:
    """Read for which evaluations a run folder has details that are whole; None for a folder without `details.jsonl`.

    Args:
        folder: Run folder.
        counts: Numbers of images and of correct ones in the record of an evaluation.
        write: Whether to remove from the file what is damaged or has other counts than its record.

    Returns:
        Numbers of images and of correct ones in the details of each evaluation.
    """

    def check(details: Mapping[int, tuple[Key, Counts]]) -> Mapping[int, str]:
        differ = (number for number, (key, own) in details.items() if counts.get(key, own) != own)
        return dict.fromkeys(differ, "its counts are not those of its record")

    path = folder / DETAILS
    return dict(keep_lines(path, _parse_counts, check, write=write)) if path.exists() else None


def _parse_counts(text: bytes) -> tuple[Key, Counts]:
    key, line = _parse(text)
    return key, Details.from_dict(line).counts


def _parse(text: bytes) -> tuple[Key, Line]:
    line = shaped(parse_json(text, "it"), Line, "it", advice="")
    names: Mapping[str, object] = line
    return (*(str(names[name]) for name in KEY), "exact"), line
