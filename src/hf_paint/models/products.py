"""How exactly a GPU multiplies in float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_products(*, tf32: bool = False) -> Iterator[None]:
    """Compute float32 products in full inside the block, or with inputs rounded to TF32, and as before after it.

    PyTorch lets convolutions on GPUs round their inputs to TF32 by default, which moved one image of 500 in a test.
    Arguments of transformers change the setting for the whole process: compiling in bfloat16 turns TF32 on, and it
    stays on.

    Args:
        tf32: Whether to round.

    Example:
        >>> with float32_products():
        ...     torch.backends.cuda.matmul.fp32_precision
        'ieee'
    """
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
