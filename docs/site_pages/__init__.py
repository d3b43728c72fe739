"""The pages of the site that are made from the code, so that they say what the code does.

Each module makes one page, or several of one kind. A page is Markdown; its path is its place in the site.
"""

from collections.abc import Callable, Mapping
from functools import partial

from site_pages import api, built_in_tasks, card_metadata, commands, recipe_keys, run_folder, task_keys


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/recipe_keys.md": recipe_keys.page,
    "reference/task_keys.md": task_keys.page,
    "reference/built_in_tasks.md": built_in_tasks.page,
    "reference/commands.md": commands.page,
    "reference/run_folder.md": run_folder.page,
    "reference/card_metadata.md": card_metadata.page,
    "reference/api/index.md": api.index,
    **{f"reference/api/{topic}.md": partial(api.page, topic) for topic in api.TOPICS},
}
"""Path in the site -> what makes the page."""
