"""Writing the report of runs as one HTML file."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hf_paint.errors import InputError, one_line
from hf_paint.files import check_writable, expand, write_text
from hf_paint.report.building import report_of
from hf_paint.report.page import render
from hf_paint.results.locks import working_in
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.seals import check_readable
from hf_paint.weights.manifest import seal_file


SUFFIXES = (".html", ".htm")
logger: logging.Logger = logging.getLogger(__name__)


def write_report(runs: str | Path | Sequence[str | Path], output: str | Path | None = None) -> Path:
    """Write the report of a run, or of several runs beside each other, as one HTML file that needs no other file.

    It is made of what the runs recorded: no model is run, and nothing is downloaded. Every finished run has one.

    Args:
        runs: Run folder, or several.
        output: Path to the file; by default, `report.html` in the run folder or, for several runs, in the current
            folder. An existing file is replaced.

    Returns:
        Path to the file.

    Raises:
        InputError: If a folder contains no run with records, or the file cannot be written.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_single(model_folder, task, [other_task], args, alphas=[0.0, 1.0])
        >>> write_report(result.run_folder, tmp_path / "mine.html").name
        'mine.html'
    """
    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    if not folders:
        raise InputError("A report needs at least one run folder, got none.")
    for folder in folders:
        check_readable(expand(folder))
    if output is not None or len(folders) > 1:
        return _write(folders, output)
    with working_in(expand(folders[0])):  # no run may start between the drawing and its checksum
        path = _write(folders, output)
        seal_file(path)
    return path


def redraw_report(folder: RunFolder) -> None:
    """Write the report of a run that has just finished; a failure to draw it is logged, and the run is kept."""
    if not folder.write:
        return
    try:
        _write([folder.path], None)
    except Exception as error:
        with suppress(OSError):  # an earlier one may show another choice, or pictures that were removed
            folder.report.unlink()
        logger.warning(
            f"The run in {folder.path} is finished, but its report was not drawn ({type(error).__name__}: "
            f"{one_line(error)}). To try again: hf-paint report {folder.path}"
        )


def _write(folders: Sequence[str | Path], output: str | Path | None) -> Path:
    """Write the report, and return where it is."""
    path = _path(folders, output)
    write_text(path, render(report_of(folders)))
    return path


def _path(folders: Sequence[str | Path], output: str | Path | None) -> Path:
    """Return where to write the report.

    Raises:
        InputError: If it is a folder, is not named like a page, or its folder does not exist or may not be written to.
    """
    if output is None:
        return RunFolder(expand(folders[0])).report if len(folders) == 1 else Path("report.html")
    path = expand(output)
    if path.is_dir():
        raise InputError(f"The output {output} is a folder. Name a file in it, like {path / 'report.html'}.")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"A report is an HTML page, so its name must end in .html; got {output}.")
    if not path.parent.is_dir():
        raise InputError(f"The folder {path.parent} of the output does not exist. Make it, or choose another one.")
    check_writable(path.parent)
    return path
