"""Progress bars: one switch for all of them, also for those of transformers, datasets and the Hub client."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.std import tqdm


@contextmanager
def progress_bars(*, shown: bool) -> Iterator[None]:
    """Hide every progress bar inside the block unless they are shown. Bars that an outer block hides stay hidden.

    Each library has its own switch for its own bars, and some bars have none. All are `tqdm` bars, however.

    Example:
        >>> with progress_bars(shown=False):
        ...     list(tqdm([1, 2]))
        [1, 2]
    """
    if shown:
        yield
        return
    start: Callable[..., None] = tqdm.__init__

    def start_hidden(bar: object, *args: object, **options: object) -> None:
        start(bar, *args, **(options | {"disable": True}))

    tqdm.__init__ = start_hidden  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        tqdm.__init__ = start  # type: ignore[method-assign]
