"""The log of a run's records: read when the run starts or resumes, and written line by line."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_paint.files import save_atomically
from hf_paint.results.alphas import Alpha, canonical
from hf_paint.results.details import Details
from hf_paint.results.details_log import DetailsLog
from hf_paint.results.json_lines import append_line, drop_torn_line, keep_lines
from hf_paint.results.record_checks import contradictions, without_details, without_images
from hf_paint.results.records import Result, read_results
from hf_paint.results.run_files import RESULTS


class ResultLog:
    """Append-only log of records, stored in the `results.jsonl` of a run folder.

    Separate files store whether each image was classified correctly, and the details of each exact record.

    Args:
        folder: Run folder. If None, records are only kept in memory.
        write: Whether this process writes to disk. Other processes keep the same records in memory.
        name: File name of the log.
        mend: Whether to drop damaged records, and those whose per-image file or details are, from memory and from
            disk, so that they are evaluated again; otherwise, they are an error.

    Example:
        >>> log = ResultLog(tmp_path)
        >>> log.append(Result(alpha=0.0, task="mnist", role="patching", split="test", correct=9, total=10))
        >>> ResultLog(tmp_path).results[0].accuracy
        0.9
    """

    def __init__(
        self, folder: str | Path | None, *, write: bool = True, name: str = RESULTS, mend: bool = False
    ) -> None:
        self.folder: Path | None = Path(folder) if folder is not None else None
        self.write = write
        self.name = name
        self.results: list[Result] = []
        if self.folder is not None and (self.folder / name).exists():
            self.results = self._mended(self.folder) if mend else read_results(self.folder / name)
            if write:
                drop_torn_line(self.folder / name)
        self._known: dict[tuple[str, ...], dict[Alpha, Result]] = {}
        self._samples: dict[tuple[str, ...], tuple[int, int] | None] = {}
        self._borrowed: dict[tuple[str, ...], Result] = {}
        for result in self.results:
            self._remember(result)

    def _mended(self, folder: Path) -> list[Result]:
        """Read the records that are whole, and remove the others from disk."""

        def check(results: Mapping[int, Result]) -> Mapping[int, str]:
            without = without_details(results, folder, write=self.write) | without_images(results, folder)
            return without | contradictions(results)

        return keep_lines(folder / self.name, Result.from_json, check, write=self.write)

    def find(self, key: tuple[str, ...], alpha: Alpha | None = None) -> Result | None:
        """Return the record with this key, or None if there is no such record yet.

        Args:
            key: Key of the record (`Result.key`).
            alpha: If given, only return a record with this alpha. The same weights may be recorded under several
                alphas.
        """
        records = self._known.get(key, {})
        return (
            next(iter(records.values()), self._borrowed.get(key)) if alpha is None else records.get(canonical(alpha))
        )

    def borrow(self, results: Iterable[Result]) -> None:
        """Know records in another log of the same folder, so that these weights are not evaluated again."""
        self._borrowed |= {result.key: result for result in results}

    def is_current(self, result: Result) -> bool:
        """Return whether the last record of this task and split was measured on the same images as this one."""
        return self._samples[result.role, result.task, result.split] == result.sample

    @property
    def on_disk(self) -> bool:
        """Whether records are written to disk by this process."""
        return self.write and self.folder is not None

    @cached_property
    def _details(self) -> DetailsLog:
        return DetailsLog(self.folder or Path())

    def append(self, result: Result, correct: NDArray[np.bool_] | None = None, details: Details | None = None) -> None:
        """Add a record and flush it to disk.

        The record is written last, so that what belongs to a record is never missing.

        Args:
            result: Record to add.
            correct: Whether each image is classified correctly, shape (result.total,).
            details: Details of the evaluation.
        """
        if self.write and self.folder is not None:
            if correct is not None and result.correct_file is not None:
                save_atomically(self.folder / result.correct_file, lambda path: np.save(path, correct))
            if details is not None:
                self._details.append(result, details)
            append_line(self.folder / self.name, result.to_json())
        self.results.append(result)
        self._remember(result)

    def _remember(self, result: Result) -> None:
        self._known.setdefault(result.key, {})[result.alpha] = result
        self._samples[result.role, result.task, result.split] = result.sample
