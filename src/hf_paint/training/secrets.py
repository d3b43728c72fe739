"""Text that must not be written: access tokens."""

from types import NoneType
from typing import Any, Self


class Secret(str):
    """Text that is kept in memory only: a pickle holds None in its place, and `repr` hides it.

    Example:
        >>> import pickle
        >>> token = Secret("hf_x")
        >>> token == "hf_x", [token], pickle.loads(pickle.dumps(token))
        (True, [<hidden>], None)
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"

    def __reduce_ex__(self, protocol: object) -> tuple[type[None], tuple[()]]:
        return NoneType, ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
