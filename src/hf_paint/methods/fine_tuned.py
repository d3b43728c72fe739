"""Methods for one fine-tuned model: averages along its training, an alpha for each layer or each weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from transformers import TrainerCallback

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_interpolation, fingerprint_values, fingerprint_weights
from hf_paint.fisher import interpolate_fisher
from hf_paint.layerwise import interpolate_layerwise, lines_alphas
from hf_paint.methods.base import Bench, Method, WeightPath, Weights, check_share
from hf_paint.weight_averaging import EMACallback, SWACallback
from hf_paint.weights.layers import count_layers


@dataclass(frozen=True, kw_only=True)
class Interpolate(Method):
    """The straight line from theta_0 to the fine-tuned model (PAINT, Section 2; WiSE-FT, Section 3)."""

    name: ClassVar[str] = "interpolate"


@dataclass(frozen=True, kw_only=True)
class SWA(Method):
    """theta_1 is the mean of the weights at some steps (`SWACallback`)."""

    name: ClassVar[str] = "swa"
    end: ClassVar[str] = "SWA"
    start: float = 0.75
    every: int = 50

    def callbacks(self) -> list[TrainerCallback]:
        """Return the average."""
        return [SWACallback(self.start, every=self.every)]

    def __post_init__(self) -> None:
        self.callbacks()  # which checks the options

    def sentence(self) -> str:
        """Return which steps count."""
        share = f"from {100 * self.start:g} % of the training on, the weights at every {self.every} steps"
        return f"`theta_1` is a stochastic weight average: {share} count, all alike."


@dataclass(frozen=True, kw_only=True)
class EMA(Method):
    """theta_1 is the exponential moving average of the weights (`EMACallback`)."""

    name: ClassVar[str] = "ema"
    end: ClassVar[str] = "EMA"
    decay: float = 0.999
    warmup: bool = False

    def callbacks(self) -> list[TrainerCallback]:
        """Return the average."""
        return [EMACallback(self.decay, warmup=self.warmup)]

    def __post_init__(self) -> None:
        self.callbacks()  # which checks the options

    def sentence(self) -> str:
        """Return the decay."""
        warmup = ", which grew at first" if self.warmup else ""
        average = "the exponential moving average of the weights in training"
        return f"`theta_1` is {average}, with decay {self.decay:g}{warmup}."


@dataclass(frozen=True, kw_only=True)
class Lines(Method):
    """Layer l of L moves by `alpha * (1 - beta + beta (l - 1) / (L - 1))` (LiNeS; Wang et al., 2025, Section 4).

    In the paper's letters, alpha and beta are `alpha (1 - beta)` and `alpha beta` here: alpha 0 is theta_0, and the
    last layer moves by alpha.
    """

    name: ClassVar[str] = "lines"
    end: ClassVar[str] = "LiNeS"
    merges: ClassVar[bool] = True
    beta: float = 0.5

    def __post_init__(self) -> None:
        check_share(self.name, "beta", self.beta)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return the fine-tuned model with its layers scaled."""
        (theta,) = thetas.values()
        return interpolate_layerwise(theta_0, theta, lines_alphas(count_layers(theta_0), 1 - self.beta, self.beta))

    def sentence(self) -> str:
        """Return by how much each layer moves."""
        return (
            f"`theta_1` is the fine-tuned model with the change of its layers scaled by depth, from {1 - self.beta:g} "
            "at the embeddings to 1 at the end (LiNeS)."
        )


@dataclass(frozen=True, kw_only=True)
class Layerwise(Method):
    """Each layer moves by alpha times a factor of its own.

    Attributes:
        factors: One per layer, embeddings first and projection last, or regular expression -> factor, in [0, 1].
        default: The factor of what no regular expression matches.
    """

    name: ClassVar[str] = "layerwise"
    end: ClassVar[str] = "layerwise"
    merges: ClassVar[bool] = True
    factors: Mapping[str, float] | Sequence[float] = field(default_factory=dict)
    default: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.factors, Mapping):
            given = list(self.factors.values()) if all(isinstance(pattern, str) for pattern in self.factors) else []
        else:
            given = list(self.factors) if isinstance(self.factors, (list, tuple)) else []
        if not given:
            raise InputError(
                "The method 'layerwise' needs `factors`, {regular expression: factor} or a list of one per layer; got "
                f"{self.factors!r}."
            )
        for factor in given:
            check_share(self.name, "factors", factor)
        check_share(self.name, "default", self.default)

    def check(self, theta_0: Weights) -> None:
        """Refuse factors that are not one per layer, and regular expressions that match nothing."""
        interpolate_layerwise(theta_0, theta_0, self.factors, default=self.default)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return the fine-tuned model with its layers scaled."""
        (theta,) = thetas.values()
        return interpolate_layerwise(theta_0, theta, self.factors, default=self.default)

    def sentence(self) -> str:
        """Return by how much each layer moves."""
        if isinstance(self.factors, Mapping):
            parts = ", ".join(f"{factor:g} for `{pattern}`" for pattern, factor in self.factors.items())
            scale = f"{parts}, and {self.default:g} for the others"
        else:
            scale = f"{', '.join(f'{factor:g}' for factor in self.factors)}, from the embeddings to the projection"
        return f"`theta_1` is the fine-tuned model with the change of its layers scaled by {scale}."


@dataclass(frozen=True, kw_only=True)
class Fisher(Method):
    """Each weight moves by a share of its own, from its Fisher information (`interpolate_fisher`)."""

    name: ClassVar[str] = "fisher"
    is_line: ClassVar[bool] = False
    num_images: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_images < 1 or self.seed < 0:
            given = f"{self.num_images} and {self.seed}"
            raise InputError(f"The method 'fisher' needs `num_images` from 1 and a `seed` from 0, got {given}.")

    def path(self, theta_0: Weights, theta_1: Weights, bench: Bench) -> WeightPath:
        """Return the path along which the Fisher information of both ends counts."""
        ends = {"theta_0": theta_0, "theta_1": theta_1}
        information = [
            bench.fisher(name, theta, num_images=self.num_images, seed=self.seed) for name, theta in ends.items()
        ]
        return FisherPath(theta_0, theta_1, *information)

    def sentence(self) -> str:
        """Return what the shares come from."""
        return (
            "Each weight has a share of its own, by its Fisher information in both models: `theta_alpha` is `((1 - "
            "alpha) F_0 theta_0 + alpha F_1 theta_1) / ((1 - alpha) F_0 + alpha F_1)`, F being estimated on "
            f"{self.num_images} training images."
        )


class FisherPath:
    """The path of `interpolate_fisher`.

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        theta_1: The weights after fine-tuning.
        fisher_0: Name -> Fisher information of theta_0.
        fisher_1: Name -> Fisher information of theta_1.
    """

    def __init__(self, theta_0: Weights, theta_1: Weights, fisher_0: Weights, fisher_1: Weights) -> None:
        self.ends = theta_0, theta_1
        self.information = fisher_0, fisher_1
        self._fingerprints = [fingerprint_weights(weights) for weights in (*self.ends, *self.information)]

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return theta_alpha, name -> tensor."""
        return interpolate_fisher(*self.ends, *self.information, alpha)

    def fingerprint(self, alpha: float) -> str:
        """Return the fingerprint of theta_alpha: at the ends, that of their weights."""
        theta_0, theta_1, *_ = self._fingerprints
        if alpha in (0, 1):
            return fingerprint_interpolation(theta_0, theta_1, alpha)
        return fingerprint_values("fisher", *self._fingerprints, float(alpha))
