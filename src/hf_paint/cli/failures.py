"""Failures of the disk, the memory, the network and other processes: one line each. Everything else is a bug."""

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import IOBase
from pathlib import Path
from traceback import walk_tb

from hf_paint.errors import one_line
from hf_paint.temporary import without_temporary


RESUME = "Once that is fixed, run the same command again; a run that had begun resumes."
OFFLINE = "Check the connection to the internet."
TRACEBACK = "HF_PAINT_TRACEBACK"
"""Environment variable that makes every failure show its traceback."""
MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""Error numbers that may mean a bug, or that someone changed files during the run."""
MAY_BE_A_BUG = f" If the files look right, please report this with the output of {TRACEBACK}=1."
LESS = "Run the same command again with"
SMALLER = (
    "smaller batches (in training, half the `per_device_train_batch_size` and twice the `gradient_accumulation_steps`)"
)
FEWER = "a smaller `dataloader_num_workers`."
TYPES: dict[str, tuple[str, ...]] = {
    "network": (
        *("builtins.ConnectionError", "builtins.TimeoutError", "socket.gaierror", "ssl.SSLError"),
        *(
            "httpx.TransportError",
            "httpx2.TransportError",
            "http.client.HTTPException",
            "urllib3.exceptions.HTTPError",
        ),
        *(
            "aiohttp.ClientError",
            "requests.ConnectionError",
            "requests.Timeout",
            "requests.exceptions.ChunkedEncodingError",
        ),
    ),
    "memory": ("builtins.MemoryError", "torch.OutOfMemoryError"),
    "process": ("concurrent.futures.BrokenExecutor",),
    "storage": ("builtins.OSError", "safetensors.SafetensorError", "pyarrow.ArrowInvalid"),
}
"""Kind -> error types, named with their modules."""
CACHES = (
    *(("datasets.config", "HF_DATASETS_CACHE"), ("datasets.config", "HF_MODULES_CACHE")),
    ("huggingface_hub.constants", "HF_HOME"),
)
"""Variables that hold the paths of caches: module and name."""
OF_THE_MACHINE = tuple(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ENOMEM", "EMFILE", "ENFILE", "ESTALE")
)
"""Error numbers that blame the machine, whichever file is named."""
MISTAKES = tuple(
    getattr(errno, name)
    for name in ("EBADF", "ECHILD", "EDOM", "EFAULT", "EINVAL", "ENOTTY", "ERANGE", "ESPIPE", "ESRCH")
)
"""Error numbers that mean a bug, unless the error names a file, which may be on an unusual file system."""
WORDS = {
    "memory": r"can't allocate memory|CUDA out of memory|MPS backend out of memory|failed to allocate memory",
    "process": r"DataLoader worker .*(killed by signal|exited unexpectedly)|bus error encountered in worker"
    r"|subprocesses has abruptly died",
    "storage": r"inline_container|PytorchStreamWriter|iostream error|Parent directory .* does not exist",
}
"""Kind -> pattern of its messages, for errors that PyTorch raises as plain RuntimeErrors."""
FULL = 1_000_000
"""Free bytes below which a disk counts as full if a library does not say why it failed."""


def describe(error: BaseException) -> str | None:
    """Return one line for a failure that is neither a mistake of the user nor a bug, or None.

    An error that wraps another one is of the same kind.
    """
    for link in _chain(error):
        match kind_of(link):
            case "network":
                return f"the network failed: {_text(link)}. {OFFLINE} {RESUME}"
            case "hub":
                return f"the server refused: {_text(link)}"
            case "memory":
                return f"there is not enough memory: {_text(link)}. {LESS} {SMALLER}."
            case "process":
                return f"another process died, perhaps because memory ran out: {_text(link)}. {LESS} {FEWER}"
            case "storage":
                file = _file(link)
                place = "" if file is None else f"{without_temporary(file)}: "
                return f"{place}{_reason(link, file)}. {RESUME}{MAY_BE_A_BUG if _errno(link) in MISSING else ''}"
    return None


def is_of_the_machine(error: BaseException) -> bool:
    """Return whether an input was blamed for a failure of the network or the machine."""
    links = list(_chain(error.__cause__ or error.__context__, hidden=True))
    if any("OfflineModeIsEnabled" in f"{type(link).__name__} {link}" for link in links):  # as the user wanted
        return False
    return any(
        kind_of(link) in ("network", "memory", "process") or _errno(link) in OF_THE_MACHINE or _is_cache_closed(link)
        for link in links
    )


def remedy(error: BaseException) -> str:
    """Return what to do about an input error that `is_of_the_machine`."""
    kinds = {kind_of(link) for link in _chain(error.__cause__ or error.__context__, hidden=True)}
    return f"{OFFLINE} {RESUME}" if "network" in kinds else RESUME


def _is_cache_closed(error: BaseException) -> bool:
    """Return whether permission was denied for a file in a cache, whose path no user chose."""
    if not isinstance(error, PermissionError) or not isinstance(error.filename, (str, os.PathLike)):
        return False
    places = [getattr(sys.modules.get(module), name, None) for module, name in CACHES]
    places.append(os.environ.get("HF_PAINT_CACHE"))
    return any(Path(error.filename).is_relative_to(Path(place)) for place in places if place)


def kind_of(error: BaseException) -> str | None:
    """Return `network`, `hub`, `memory`, `process` or `storage` for an error of that kind, whatever caused it."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return "network" if status == 429 or status >= 500 else "hub"
    if isinstance(error, RuntimeError):
        for kind, words in WORDS.items():
            if re.search(words, str(error)):
                return kind
    if isinstance(error, OSError) and error.errno in MISTAKES and error.filename is None:
        return None
    return next((kind for kind, names in TYPES.items() if isinstance(error, _types(names))), None)


def _types(names: Sequence[str]) -> tuple[type[BaseException], ...]:
    """Return the types whose modules have been imported; others cannot have been raised."""
    split = [name.rpartition(".") for name in names]
    types = [getattr(sys.modules.get(module), name, None) for module, _, name in split]
    return tuple(kind for kind in types if isinstance(kind, type))


def _chain(error: BaseException | None, *, hidden: bool = False) -> Iterator[BaseException]:
    """Yield an error and those that caused it; with `hidden`, also those during whose handling it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or (error.__context__ if hidden else None)


def _text(error: BaseException) -> str:
    """Return the message of an error; if it contains the traceback of another process, only its last line."""
    text = str(error) or type(error).__name__
    text = text.strip().splitlines()[-1] if "Original Traceback" in text else text
    return one_line(text).rstrip(".")


def _errno(error: BaseException | None) -> int | None:
    """Return the errno of an error, even if a library gives it only in its message or replaced the error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if match := re.search(r"\(os error (\d+)\)|\[Errno (\d+)\]", str(error)):
            return int(match[1] or match[2])
        error = error.__context__ if kind_of(error) == "storage" else None
    return None


def _reason(error: BaseException, file: Path | None) -> str:
    number = _errno(error)
    if number is None and file is not None:
        with suppress(OSError):
            number = errno.ENOSPC if shutil.disk_usage(file.parent).free < FULL else None
    return _text(error) if number is None else os.strerror(number)


def _file(error: BaseException) -> Path | None:
    """Return the file that an error names, or else a file that the failing function was using.

    Errors from writing to an open file do not name it.
    """
    names = [getattr(error, "filename", None), *re.findall(r'at path "(.+?)"', str(error))]
    for name in names:
        if isinstance(name, str) and name:
            return Path(name)
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code.co_name != "<module>"]
    for frame in reversed(frames):
        values = list(frame.f_locals.values())
        files = [value.name for value in values if isinstance(value, IOBase) and hasattr(value, "name")]
        paths = [value for value in values if isinstance(value, Path)]
        texts = [value for value in values if isinstance(value, str) and os.sep in value and _is_place(value)]
        for name in (*files, *paths, *texts):
            if isinstance(name, (str, Path)):
                return Path(name)
    return None


def _is_place(text: str) -> bool:
    with suppress(OSError, ValueError):
        return Path(text).parent.is_dir()
    return False
