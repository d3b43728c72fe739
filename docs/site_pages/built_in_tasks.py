"""The page of the built-in tasks and their groups."""

from hf_paint.hub.card_metadata import dataset_id
from hf_paint.tasks import groups
from hf_paint.tasks.definitions import list_tasks
from hf_paint.tasks.registry import get_task
from hf_paint.tasks.task import Task
from site_pages.markdown import code, sections, table, text
from site_pages.source import constants


INTRODUCTION = """\
# Built-in tasks

Each of these names is a task wherever tasks are named. `hf-paint tasks NAME` shows its definition with its classes and
prompts, and `hf-paint tasks NAME --data` opens its data. hf_paint ships no images: a data set on the Hub is downloaded
when it is first used, under its own licence, and the others are read from files that you have."""
HEADER = ["task", "data set", "kind", "classes", "prompts", "train", "validation", "test", "licence"]


def page() -> str:
    """Return the page."""
    return sections(
        INTRODUCTION,
        table(HEADER, map(_row, map(get_task, list_tasks()))),
        "## Groups",
        "The name of a group stands for its tasks wherever several tasks can be named.",
        table(
            ["group", "tasks"],
            ([f"`{group}`", ", ".join(map(code, tasks))] for group, tasks in groups.TASK_GROUPS.items()),
        ),
        constants(groups)["TASK_GROUPS"].partition("\n\n")[2],
    )


def _row(task: Task) -> list[str]:
    on_the_hub = dataset_id(task)
    data = f"[{task.dataset}](https://huggingface.co/datasets/{task.dataset})" if on_the_hub else code(task.dataset)
    classes = str(len(task.class_names)) if task.class_names else "from the data"
    splits = [code(split or "") for split in (task.splits.train, task.splits.validation, task.splits.test)]
    name = f"[`{task.name}`]({task.homepage})" if task.homepage else code(task.name)
    return [name, data, task.kind, classes, str(len(task.templates)), *splits, text(task.license or "")]
