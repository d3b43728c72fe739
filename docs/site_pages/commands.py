"""The page of commands: the help of each, as its parser has it."""

import argparse
import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module

from hf_paint.cli.main import COMMANDS, main
from hf_paint.cli.parser import Parser, positive
from site_pages.markdown import code, sections, table, text


INTRODUCTION = """\
# Commands

`hf-paint COMMAND --help` prints the same. `hf-paint --version` prints the versions of hf_paint and its main
dependencies, for bug reports. A flag that takes no value may be followed by `true` or `false`."""
KEYS_OF_A_RECIPE = "\n\nrecipe keys:\n"
NUMBERS = {float: "number", positive: "positive whole number"}
COUNTS = {"+": "one or more", "?": "optional"}
"""Number of values of an argument without a flag, as argparse has it -> the same in words."""


def parsers() -> Mapping[str, Parser]:
    """Return name -> parser of every command."""
    commands = Parser(prog="hf-paint").add_subparsers(parser_class=Parser)
    for name in COMMANDS:
        import_module(f"hf_paint.cli.{name.replace('-', '_')}").add(commands)
    return commands.choices


def page() -> str:
    """Return the page."""
    exit_codes = inspect.getdoc(main).partition("\n\n")[2]
    return sections(INTRODUCTION, exit_codes, *(_command(name, parser) for name, parser in parsers().items()))


def _command(name: str, parser: Parser) -> str:
    """Return the section of one command."""
    example, shown_keys, _ = (parser.epilog or "").removeprefix("example:\n").partition(KEYS_OF_A_RECIPE)
    rows = [_row(action, parser.prog) for action in parser._actions if action.dest != "help"]
    return sections(
        f"## hf-paint {name}",
        text(parser.description or ""),
        table(["argument", "values", "what it does"], rows),
        "It also takes every [recipe key](recipe_keys.md) as a flag." * bool(shown_keys),
        *_paragraphs(example.rstrip().splitlines()),
    ).rstrip()


def _row(action: argparse.Action, program: str) -> list[str]:
    """Return the row of an argument: how it is written, the values it takes, and its help."""
    written = action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)
    words = str(action.help) % {**vars(action), "prog": program}
    needed = "Required: " * (action.required and bool(action.option_strings))
    return [code(written), _values(action), f"{needed}{text(words)}"]


def _values(action: argparse.Action) -> str:
    """Say which values an argument takes."""
    several = " ..." * (action.nargs in ("+", "*"))
    if action.nargs == 0:
        return ""
    if not action.option_strings:
        return COUNTS.get(action.nargs, "")
    if action.choices:
        return ", ".join(map(code, action.choices)) + several
    return f"{NUMBERS.get(action.type) or code(action.metavar or action.dest.upper())}{several}"


def _paragraphs(lines: Iterable[str]) -> list[str]:
    """Return an epilog as Markdown: its indented lines are commands, the others are prose."""
    parts: list[tuple[bool, list[str]]] = []
    for line in lines:
        is_code = line.startswith("  ")
        if not parts or parts[-1][0] != is_code or not line:
            parts.append((is_code, []))
        parts[-1][1].append(line.strip())
    shown = [(is_code, "\n".join(part).strip()) for is_code, part in parts]
    return [f"```bash\n{part}\n```" if is_code else text(part) for is_code, part in shown if part]
