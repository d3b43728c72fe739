"""Tasks: data sets with classes and prompts, including attacks, corruptions, counting, questions and scenes."""

from hf_paint.tasks.classification import ClassificationTask
from hf_paint.tasks.counting import CountingTask
from hf_paint.tasks.definitions import list_tasks
from hf_paint.tasks.groups import list_task_groups
from hf_paint.tasks.multi_label import MultiLabelTask
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.registry import corrupted, get_task, get_tasks
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic import TypographicAttack
from hf_paint.tasks.typographic_photos import TypographicTask


__all__ = [
    "ClassificationTask",
    "CountingTask",
    "MultiLabelTask",
    "MultipleChoiceTask",
    "Task",
    "TypographicAttack",
    "TypographicTask",
    "corrupted",
    "get_task",
    "get_tasks",
    "list_task_groups",
    "list_tasks",
]
