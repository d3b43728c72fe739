"""Predict the time of any work on a device by counting its operations on a CPU, where it may run on smaller inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from machines import Machine
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


LAUNCH = 8e-6
"""Seconds that an operation takes to be launched from Python, however small it is; assumed."""


@dataclass(frozen=True)
class Counted:
    """What some work does: operations, and the bytes that they read and write."""

    operations: int
    num_bytes: int

    def seconds(self, machine: Machine, *, larger: float = 1.0, more: float = 1.0) -> float:
        """Return the time that the work takes on a machine: launching and moving do not overlap for small tensors.

        Args:
            machine: The machine.
            larger: How many times as many bytes it moves there.
            more: How many times as many operations it takes there.
        """
        return more * self.operations * LAUNCH + larger * self.num_bytes / machine.elementwise


def counted(work: Callable[[], Any]) -> Counted:
    """Do some work on the CPU, and count its operations. Views move nothing."""
    with _Counter() as counter:
        work()
    return Counted(counter.operations, counter.num_bytes)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations = self.num_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        read, written = (_tensors(x) for x in ((args, kwargs), result))
        if written and not function.is_view:
            self.operations += 1
            self.num_bytes += sum(x.nbytes for x in (*read, *written))
        return result


def _tensors(tree: object) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]
