"""The commands of `hf-paint`, one module each: `add` makes the parser, `run` does the work. Heavy imports wait."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from hf_paint.errors import InputError


Run = Callable[[argparse.Namespace, list[str]], None]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`s: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise InputError(message)


def add_command(commands: Any, name: str, run: Run, help_text: str, example: str) -> Parser:
    """Add a command whose help shows an example."""
    command: Parser = commands.add_parser(
        name,
        help=help_text,
        description=help_text,
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    return command


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first row is the header."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)
