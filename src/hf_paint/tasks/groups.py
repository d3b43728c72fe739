"""Groups of built-in tasks: the benchmarks of PAINT and of model merging, by one name."""

from collections.abc import Mapping


_MERGING_8 = ("sun397", "cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd")
_MERGING_14 = (*_MERGING_8, "flowers102", "pcam", "fer2013", "oxford_pets", "stl10", "cifar100")
_MERGING_20 = (*_MERGING_14, "cifar10", "food101", "fashion_mnist", "emnist_letters", "kmnist", "rendered_sst2")

TASK_GROUPS: Mapping[str, tuple[str, ...]] = {
    "paint9": ("cars", "dtd", "eurosat", "gtsrb", "kitti_distance", "mnist", "resisc45", "sun397", "svhn"),
    "paint_supported5": ("imagenet", "cifar10", "cifar100", "stl10", "food101"),
    "merging8": _MERGING_8,
    "merging14": _MERGING_14,
    "merging20": _MERGING_20,
}
"""Name of a group -> its built-in tasks, in their usual order.

`paint9` and `paint_supported5` are the tasks that PAINT patches and supports (Ilharco et al., 2022, Section 3). The
eight tasks of task arithmetic (Ilharco et al., 2023) became those of model merging; Wang et al. ("Localizing Task
Information for Improved Model Merging and Compression", 2024) added six, and then another six.
"""


def list_task_groups() -> dict[str, list[str]]:
    """Return the groups of built-in tasks, name -> tasks; a group stands for its tasks wherever tasks are listed.

    Example:
        >>> list_task_groups()["paint_supported5"]
        ['imagenet', 'cifar10', 'cifar100', 'stl10', 'food101']
    """
    return {group: [*tasks] for group, tasks in TASK_GROUPS.items()}
