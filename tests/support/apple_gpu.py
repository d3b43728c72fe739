"""Tensors that claim to be on an Apple GPU and, as there, refuse float64."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class OnAppleGPU(torch.Tensor):
    """A CPU tensor whose device is `mps`; what is computed from it is there as well, until it is moved to the CPU."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func == torch.Tensor.device.__get__:
            return torch.device("mps")
        if func is torch.Tensor.to and goes_to("cpu", args, kwargs):
            return func(args[0].as_subclass(torch.Tensor), *args[1:], **(kwargs or {}))
        result = super().__torch_function__(func, types, args, kwargs or {})
        return on_apple_gpu(result) if isinstance(result, cls) else result


class AppleGPU(TorchFunctionMode):
    """Inside a `with` block, tensors can be moved to the device `mps`."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to and goes_to("mps", args, kwargs):
            return on_apple_gpu(args[0])
        return func(*args, **(kwargs or {}))


def goes_to(device, args, kwargs):
    return any(isinstance(x, torch.device | str) and str(x) == device for x in tree_leaves((args[1:], kwargs)))


def on_apple_gpu(x):
    with torch._C.DisableTorchFunctionSubclass():
        if x.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework has no float64.")
        return x.detach().as_subclass(OnAppleGPU)
