"""`hf-paint tasks`: list the built-in tasks and groups, or look at the data of a task before a run."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from hf_paint.cli.parser import Commands, add_command
from hf_paint.cli.tables import print_table
from hf_paint.errors import InputError
from hf_paint.tasks.definitions import list_tasks
from hf_paint.tasks.groups import TASK_GROUPS
from hf_paint.tasks.registry import get_task, get_tasks
from hf_paint.tasks.task import Task


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "List the built-in tasks and groups, show one of them, or look at the data of any task before a run."
    example = "  hf-paint tasks textures/\n  hf-paint tasks textures/ --yaml --output textures.yaml"
    command = add_command(commands, "tasks", run, summary=text, example=example)
    command.add_argument(
        "names",
        nargs="*",
        metavar="TASK",
        help="built-in task, whose definition is shown; group, whose tasks are listed; or a folder, data file, task "
        "YAML, Hub data set or definition in braces, whose data is opened; several are shown one after the other",
    )
    command.add_argument("--data", action="store_true", help="open the data of a built-in task too")
    command.add_argument("--all", action="store_true", help="list every class and every repeated image")
    command.add_argument("--yaml", action="store_true", help="write a complete task file instead of the tables")
    command.add_argument("--json", action="store_true", help="write JSON instead of the tables")
    command.add_argument("--output", metavar="FILE", help="file for --yaml or --json (default: standard output)")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    _check_flags(parsed)
    if not parsed.names:
        print_table(_rows_of(map(get_task, list_tasks())))
        sys.stdout.write("\n")
        print_table([["group", "tasks"], *([group, ", ".join(tasks)] for group, tasks in TASK_GROUPS.items())])
    for number, name in enumerate(_named(parsed)):
        if number:
            sys.stdout.write("\n")
        if name in TASK_GROUPS:
            print_table(_rows_of(get_tasks(name)))
        elif name in list_tasks() and not (parsed.data or parsed.json or parsed.all):
            _write_task(get_task(name), parsed.output)
        else:
            _show_data(name, parsed)


def _named(parsed: argparse.Namespace) -> list[str]:
    """Return the names to show; with --data, a group stands for its tasks."""
    groups = TASK_GROUPS if parsed.data or parsed.all else {}
    return list(dict.fromkeys(task for name in parsed.names for task in groups.get(name, (name,))))


def _check_flags(parsed: argparse.Namespace) -> None:
    shown, written = (
        [name for name in names if getattr(parsed, name)] for names in (("data", "all"), ("yaml", "json", "output"))
    )
    if (written and (len(parsed.names) != 1 or parsed.names[0] in TASK_GROUPS)) or (shown and not parsed.names):
        flag = (written or shown)[0]
        raise InputError(f"--{flag} needs one task: a built-in name, a folder, a data file or a task YAML.")
    if parsed.yaml and parsed.json:
        raise InputError("--yaml and --json exclude each other. Remove one of them.")
    if parsed.output and not (parsed.yaml or parsed.json):
        raise InputError("--output is the file for --yaml or --json. Add one of them.")


def _rows_of(tasks: Iterable[Task]) -> list[list[str]]:
    rows = [["task", "data set", "classes", "prompts", "train", "validation", "test"]]
    for task in tasks:
        splits = [task.splits.train, task.splits.validation, task.splits.test]
        classes = len(task.class_names) if task.class_names else "-"  # defined by the data
        rows.append(
            [task.name, task.dataset, str(classes), str(len(task.templates)), *(split or "-" for split in splits)]
        )
    return rows


def _show_data(name: str, parsed: argparse.Namespace) -> None:
    from hf_paint.cli.task_report import print_summary
    from hf_paint.data.summary import complete_task, summarize

    summary = summarize(name, images=not parsed.yaml)
    if parsed.yaml:
        _write_task(complete_task(summary), parsed.output)
    elif parsed.json:
        _write(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False), parsed.output)
    else:
        print_summary(summary, everything=parsed.all)


def _write_task(task: Task, output: str | None) -> None:
    if output is not None:
        task.to_yaml(output)
    else:
        sys.stdout.write(yaml.safe_dump(task.to_dict(), sort_keys=False, allow_unicode=True, width=100))


def _write(text: str, output: str | None) -> None:
    if output is not None:
        Path(output).write_text(f"{text}\n", encoding="utf-8")
    else:
        sys.stdout.write(f"{text}\n")
