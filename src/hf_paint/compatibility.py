"""Can two models be interpolated? Names, shapes and dtypes are compared before any arithmetic."""

from collections.abc import Mapping

from hf_paint.errors import InputError


TensorSpec = tuple[str, tuple[int, ...]]
"""The dtype and the shape of a tensor, such as `("float32", (512, 768))`."""


def check_compatible(theta_0: Mapping[str, TensorSpec], theta_1: Mapping[str, TensorSpec]) -> None:
    """Check that two sets of weights have the same tensors: equal names, shapes and dtypes.

    It says nothing about whether interpolating them makes sense: two models of one architecture that do not share a
    training history are compatible here and useless on the line between them.

    Args:
        theta_0: name -> (dtype, shape) of the model before fine-tuning.
        theta_1: name -> (dtype, shape) of the model after fine-tuning.

    Raises:
        InputError: If anything differs; the message names the first tensors.

    Example:
        >>> check_compatible({"w": ("float32", (2, 3))}, {"w": ("float32", (2, 3))})
    """
    _refuse("are only in theta_0", sorted(theta_0.keys() - theta_1.keys()))
    _refuse("are only in theta_1", sorted(theta_1.keys() - theta_0.keys()))
    for position, what in ((1, "shape"), (0, "dtype")):
        differing = [
            f"{name} ({theta_0[name][position]} against {theta_1[name][position]})"
            for name in theta_0
            if theta_0[name][position] != theta_1[name][position]
        ]
        _refuse(f"differ in {what}", differing)


def _refuse(problem: str, tensors: list[str]) -> None:
    if tensors:
        more = f" and {len(tensors) - 3} more" if len(tensors) > 3 else ""
        raise InputError(
            f"theta_0 and theta_1 cannot be interpolated: {len(tensors)} tensors {problem}: "
            f"{', '.join(tensors[:3])}{more}. Both must come from the same base model."
        )
