"""Choosing how to merge: of several merges, the one that does best on the validation images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.base import Measurements, Method, Several
from hf_paint.merging.interpolation import Weights


@dataclass(frozen=True, kw_only=True)
class Auto(Several):
    """The merge that does best on the validation images.

    Attributes:
        methods: Merges to try, in this order. They need no images themselves.
        chosen: Merge that was chosen; None before. With it, nothing is tried.
    """

    name: ClassVar[str] = "auto"
    end: ClassVar[str] = "merged"
    tries: ClassVar[bool] = True
    methods: Sequence[Method] | None = None
    chosen: Method | None = None

    def __post_init__(self) -> None:
        given = [*(self.methods or ()), *([self.chosen] if self.chosen else ())]
        for method in given:
            if not method.cheap:
                raise InputError(
                    f"The method '{self.name}' tries merges that need no images, but '{method.name}' is not one of "
                    "them. Remove it, or use it by itself."
                )
        labels = [label(method) for method in self.methods or ()]
        if self.methods is not None and (not labels or len({*labels}) < len(labels)):
            raise InputError(
                f"`methods` of the method '{self.name}' must list one or more different merges, got {labels}."
            )

    @property
    def candidates(self) -> dict[str, Method]:
        """Label -> merge to try; empty if one is chosen already."""
        return {} if self.chosen else {label(method): method for method in self.methods or ()}

    @property
    def needs_validation(self) -> bool:
        """Merges are compared on validation images, unless one is chosen already."""
        return self.chosen is None

    @property
    def needs_selection(self) -> bool:
        """Merges are compared by the selection rule, unless one is chosen already."""
        return self.chosen is None

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_1 of the chosen merge."""
        method = self.chosen or measurements.choose(self.candidates, thetas)
        return method.merge(theta_0, thetas, measurements)

    def sentence(self) -> str:
        """Return text for the model card that says which merge was chosen."""
        if self.chosen is None:
            return "`theta_1` is the merge of the fine-tuned models that does best on the validation images."
        return f"{self.chosen.sentence()} This merge was chosen on the validation images."

    def to_recipe(self) -> dict[str, dict[str, object]]:
        """Return the method as it appears in a recipe, with the chosen merge once there is one."""
        options: dict[str, object] = {"methods": [method.to_recipe() for method in self.methods or ()]}
        return {self.name: options | ({"chosen": self.chosen.to_recipe()} if self.chosen else {})}


def label(method: Method) -> str:
    """Return the name of a method, followed by the options that are not at their defaults.

    Example:
        >>> from hf_paint.merging.ties import Ties
        >>> label(Ties()), label(Ties(density=0.1))
        ('ties', 'ties density=0.1')
    """
    options = {f.name: getattr(method, f.name) for f in fields(method) if getattr(method, f.name) != f.default}
    return " ".join([method.name, *(f"{name}={value}" for name, value in options.items())])
