"""`hf-paint tasks`: list the built-in tasks."""

import argparse
import sys

import yaml

from hf_paint.cli.parser import Commands, add_command, print_table
from hf_paint.tasks.definitions import list_tasks
from hf_paint.tasks.registry import get_task


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "List the built-in tasks, or show the YAML definition of one task."
    command = add_command(commands, "tasks", run, summary=text, example="  hf-paint tasks eurosat")
    command.add_argument("name", nargs="?", metavar="NAME", help="built-in task name or task YAML file")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    if parsed.name is not None:
        text = yaml.safe_dump(get_task(parsed.name).to_dict(), sort_keys=False, allow_unicode=True, width=100)
        sys.stdout.write(text)
        return
    rows = [["task", "data set", "classes", "prompts", "train", "validation", "test"]]
    for name in list_tasks():
        task = get_task(name)
        splits = [task.splits.train, task.splits.validation, task.splits.test]
        classes = len(task.class_names) if task.class_names else "-"  # defined by the data
        rows.append([name, task.dataset, str(classes), str(len(task.templates)), *(split or "-" for split in splits)])
    print_table(rows)
