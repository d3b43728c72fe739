"""A terminal in this process, of which a test reads what a user sees."""

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from contextlib import contextmanager


class Terminal:
    """What was written to a terminal.

    Attributes:
        text: Everything, with control characters.
    """

    def __init__(self):
        self.text = ""

    @property
    def states(self):
        """Every line as it was at some time, without trailing spaces."""
        return [state.rstrip() for state in re.split(r"[\r\n]+", self.text) if state.strip()]

    @property
    def screen(self):
        """The lines that are there at the end, without trailing spaces."""
        lines = [""]
        for part in re.split(r"(\r\n|\r|\n)", self.text):
            if part == "\r\n" or part == "\n":
                lines.append("")
            elif part == "\r":
                lines[-1] = "\0" + lines[-1].lstrip("\0")  # what follows overwrites it
            elif lines[-1].startswith("\0"):
                lines[-1] = part + lines[-1][1 + len(part) :]
            else:
                lines[-1] += part
        return [line.strip("\0").rstrip() for line in lines if line.strip("\0 ")]


@contextmanager
def terminal(monkeypatch, *, columns=80, encoding="utf-8", stream="stderr"):
    """Make a stream a terminal inside the block, and yield it; its text is complete after the block."""
    shown, (ours, theirs) = Terminal(), pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    parts = []

    def read():
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
        except OSError:  # closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w", encoding=encoding, buffering=1) as file, monkeypatch.context() as patch:  # noqa: PTH123
        patch.setattr(f"sys.{stream}", file)
        patch.setenv("TERM", os.environ.get("TERM", "xterm"))
        patch.setenv("COLUMNS", str(columns))  # rich asks the streams that the process was started with
        yield shown
    reader.join()
    os.close(ours)
    shown.text = b"".join(parts).decode(encoding).replace("\r\n", "\n")
