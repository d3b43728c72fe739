"""What is asked of a model: a data set, its classes and prompts; attacks, corruptions, counting, VQA, scenes."""

from hf_paint.tasks.definitions import list_tasks
from hf_paint.tasks.registry import corrupted, get_task, get_tasks
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic import TypographicAttack


__all__ = ["Task", "TypographicAttack", "corrupted", "get_task", "get_tasks", "list_tasks"]
