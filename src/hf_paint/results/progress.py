"""Progress as people see it: a line for each stage of a run and, below it, one bar; in a log, a line now and then.

Every layer, and every library below, counts its work with a `tqdm` bar and need not know where it is shown. This
module decides that. On a terminal and in a notebook, one bar at a time is shown, and it leaves nothing behind. In a
log, there are no bars, but a long one becomes a line every few minutes.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from inspect import signature
from weakref import WeakSet

from tqdm import autonotebook
from tqdm.std import tqdm

from hf_paint.errors import is_first_process


class Display(IntEnum):
    """How progress is shown: not at all, as the lines of a log, or as lines and a bar."""

    HIDDEN = 0
    LINES = 1
    BAR = 2


PAUSE = 180.0
"""Seconds between two lines about the same stage in a log."""
DELAY = 0.5
"""Seconds after which a bar appears, so that quick work shows none."""
DUMB = ("dumb", "unknown")
"""Values of `TERM` for terminals that cannot write a line again."""
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"
LINE = "{desc}{percentage:.0f} %, {n_fmt} of {total_fmt}, {remaining} left{postfix}"
ENDLESS = "{desc}{n_fmt} in {elapsed}{postfix}"
"""What is shown of a bar whose total is unknown."""


@dataclass
class _Progress:
    """Where progress is shown, and how far the run is."""

    display: Display
    stages: Sequence[str] = ()
    number: int = 0
    bars: "WeakSet[tqdm[object]]" = field(default_factory=WeakSet)

    def name(self, own: str = "") -> str:
        """Return the name of a bar or, without one, of the current stage; after the number of the stage."""
        if not self.number:
            return own
        return f"{self.number}/{len(self.stages)} {own or self.stages[self.number - 1]}"


_nothing = _Progress(Display.HIDDEN)
_shown = _nothing
_start = tqdm.__init__
_parameters = signature(_start)


@contextmanager
def progress(most: Display = Display.BAR) -> Iterator[None]:
    """Show progress inside the block, on the first process only.

    Args:
        most: What to show at most. A stream that is no terminal gets lines instead of a bar, and a block inside
            another one shows at most what that one does.

    Example:
        >>> with progress(Display.HIDDEN):
        ...     list(tqdm([1, 2]))
        [1, 2]
    """
    global _shown
    outer, is_outermost, start = _shown, _shown is _nothing, vars(tqdm)["__init__"]
    display = min(most, _possible() if is_outermost else outer.display)
    _shown = _Progress(display) if is_outermost else replace(outer, display=display)
    tqdm.__init__ = _start_as_shown  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        if is_outermost:
            for bar in tuple(_shown.bars):
                bar.close()  # an error may have left it open
        _shown, tqdm.__init__ = outer, start  # type: ignore[method-assign]


@contextmanager
def stages(names: Sequence[str]) -> Iterator[None]:
    """Name the stages that `begin_stage` begins inside the block. A block inside another one changes nothing.

    Example:
        >>> with stages(["train", "sweep"]):
        ...     begin_stage("train")
        ...     begin_stage("sweep", "21 alphas")
    """
    global _shown
    outer = _shown
    if not outer.stages:
        _shown = replace(outer, stages=tuple(names))
    try:
        yield
    finally:
        _shown = outer


def begin_stage(name: str, detail: str = "") -> None:
    """Begin the next stage of this name: print its line, and name the bars after it.

    Args:
        name: One of the names given to `stages`; any other begins nothing.
        detail: What the stage is about to do.
    """
    if name in _shown.stages[_shown.number :]:
        _shown.number = _shown.stages.index(name, _shown.number) + 1
        say_progress(f"{_shown.name()}{': ' if detail else ''}{detail}")


def say_progress(line: str) -> None:
    """Print a line about the progress of a run, above any bar."""
    if _shown.display is not Display.HIDDEN:
        tqdm.write(line, file=sys.stderr)


def _possible() -> Display:
    """Return what this process can show."""
    if not is_first_process():
        return Display.HIDDEN
    terminal = sys.stderr.isatty() and os.environ.get("TERM") not in DUMB
    return Display.BAR if terminal or _in_notebook() else Display.LINES


def _in_notebook() -> bool:
    """Return whether `tqdm.auto` draws the bars of a notebook."""
    return autonotebook.tqdm is not tqdm


def _start_as_shown(bar: "tqdm[object]", *args: object, **options: object) -> None:
    """Start a bar as it is to be shown; while one is open, the bars of what happens inside it are hidden."""
    given = _named(bar, *args, **options)
    is_line = _shown.display is Display.LINES
    is_inner = any(not other.disable for other in _shown.bars)
    if is_inner or _shown.display is Display.HIDDEN or (is_line and given.get("gui")):
        given["disable"] = True
    elif given.get("disable", True) is None:  # disabled unless its file is a terminal
        del given["disable"]
    name = _shown.name(str(given.get("desc") or "").removesuffix(": "))
    look = {"desc": f"{name}: " if name else "", "leave": False, "position": None, "delay": DELAY}
    look |= {"file": _Log(), "miniters": 1} if is_line else {"dynamic_ncols": True}
    start: Callable[..., None] = _start
    start(bar, **given | look | {"bar_format": LINE if is_line else BAR})
    if not bar.disable:
        bar.bar_format = ENDLESS if bar.total is None else bar.bar_format
        _shown.bars.add(bar)


def _named(bar: "tqdm[object]", *args: object, **options: object) -> dict[str, object]:
    """Return the arguments of a bar by name."""
    _, *rest = _parameters.bind(bar, *args, **options).arguments.items()
    given = dict(rest)
    return given | dict(given.pop("kwargs", {}))


class _Log:
    """File that a bar writes to when there is no terminal; it passes on what the bar says every few minutes."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.said = time.monotonic()

    def write(self, text: str) -> None:
        """Print the text of the bar as a line, unless there was one a short while ago."""
        if (line := text.strip()) and time.monotonic() >= self.said + PAUSE:
            self.said = time.monotonic()
            say_progress(line)

    def flush(self) -> None:
        """Do nothing: every line is flushed."""
