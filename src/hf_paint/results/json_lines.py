"""Append-only files with one JSON object per line, which survive a killed process."""

import logging
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from hf_paint.errors import InputError, one_line


AGAIN = "Run the same `hf-paint patch` again: it evaluates once more what is damaged."
Record = TypeVar("Record")
logger: logging.Logger = logging.getLogger(__name__)


def read_lines(
    path: Path,
    parse: Callable[[bytes], Record],
    check: Callable[[Mapping[int, Record]], Mapping[int, str]] = lambda records: {},
) -> list[Record]:
    """Return what `parse` makes of each line. An incomplete last line, left behind by a killed process, is ignored.

    Args:
        path: Path to the file.
        parse: Reads a line; raises a `ValueError` for one that is damaged.
        check: Takes line number -> record; returns line number -> what is wrong with it beside the other lines.

    Raises:
        InputError: If a complete line is not a record.
    """
    _, records, problems = _scan(path, parse, check)
    for number, problem in sorted(problems.items()):
        raise InputError(f"Line {number} of {path} is not a valid record: {problem}. {AGAIN}")
    return list(records.values())


def keep_lines(
    path: Path,
    parse: Callable[[bytes], Record],
    check: Callable[[Mapping[int, Record]], Mapping[int, str]] = lambda records: {},
    *,
    write: bool,
) -> list[Record]:
    """Version of `read_lines` that drops damaged lines, from the file as well if `write` is true, and says so."""
    lines, records, problems = _scan(path, parse, check)
    if problems and write:
        number, problem = min(problems.items())
        others = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        logger.warning(f"Line {number} of {path} is dropped{others}, and evaluated again: {problem}.")
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        partial.write_bytes(b"".join(line + b"\n" for i, line in enumerate(lines, 1) if i not in problems))
        partial.replace(path)
    return [record for number, record in records.items() if number not in problems]


def _scan(
    path: Path,
    parse: Callable[[bytes], Record],
    check: Callable[[Mapping[int, Record]], Mapping[int, str]],
) -> tuple[list[bytes], dict[int, Record], dict[int, str]]:
    """Return all complete lines, line number -> record, and line number -> what is wrong with it."""
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, but must be a file. Remove it.") from error
    records: dict[int, Record] = {}
    problems: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            records[number] = parse(line)
        except ValueError as error:
            problems[number] = one_line(error).removesuffix(".")
    return lines, records, {**problems, **check(records)}


def append_line(path: Path, line: str, *, sync: bool = True) -> None:
    """Append a line to a file, so that it outlives the process; with `sync`, it also outlives a crash of the machine.

    Waiting for the disk takes milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        if sync:
            file.flush()
            os.fsync(file.fileno())


def drop_torn_line(path: Path) -> None:
    """Remove an incomplete last line, so that the next one can be appended."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
