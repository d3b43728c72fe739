"""A stand-in, on a CPU, for the mode in which torch reports what waits for a GPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


READS = {
    torch.ops.aten._local_scalar_dense.default,  # float(x), int(x), bool(x), x.item()
    torch.ops.aten.nonzero.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.unique_dim.default,
    torch.ops.aten._unique2.default,
}


class Waits(TorchDispatchMode):
    """Counts the operations inside a `with` block that would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        masks = function is torch.ops.aten.index.Tensor and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        )
        if function in READS or masks:
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))
