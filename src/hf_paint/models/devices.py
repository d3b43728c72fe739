"""What devices can compute."""

import torch
from torch import Tensor


WITHOUT_FLOAT64 = ("mps",)
"""Types of devices that have no float64: Apple's GPUs."""


def float64_device(device: torch.device) -> torch.device:
    """Return the device on which to compute in float64: `device` itself, or the CPU if `device` has no float64.

    Example:
        >>> float64_device(torch.device("cuda:0")), float64_device(torch.device("mps"))
        (device(type='cuda', index=0), device(type='cpu'))
    """
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def to_float64(x: Tensor) -> Tensor:
    """Return a tensor in float64, moved to the CPU first if its device has no float64."""
    return x.to(float64_device(x.device)).double()


def free_memory(device: torch.device) -> int:
    """Return the free memory of a GPU in bytes, including memory that torch has reserved but is not using.

    It is 0 for other devices.

    Example:
        >>> free_memory(torch.device("cpu"))
        0
    """
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
