"""One move of the demo's slider: theta_alpha and the answers for one picture, with a ViT-B/32.

    python tests/benchmarks/live.py [--rounds 5] [--quick] [--json FILE]

The plain way writes theta_alpha into a model with `torch.lerp`, runs it, and compares the picture with the words.
Every move goes to another alpha, so nothing is read from memory.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count

import torch
from common import Row, Run, arguments, compare, interleave, report, seconds
from material import fine_tuned, make_clip, make_processor
from PIL import Image
from torch import Tensor

from hf_paint import build_zero_shot_head
from hf_paint.merging.path import Line
from hf_paint.models.towers import image_tower_weights, with_weights
from hf_paint.report.live import TEMPLATE, LivePatch


WORDS = [f"thing {number}" for number in range(10)]
MOST_SECONDS = 0.1
MOST_DIFFERENCE = 1e-5


def main() -> None:
    """Measure moves."""
    parsed = arguments(__doc__)
    report([measure(parsed.rounds * 4, quick=parsed.quick)], parsed)


def measure(rounds: int, *, quick: bool) -> Row:
    """Time both ways at one alpha after another, and compare their probabilities."""
    processor = make_processor([f"a photo of a {word}." for word in WORDS])
    model = make_clip("ViT-B/32", processor, only="vision", quick=quick)
    theta_0 = {name: x.clone() for name, x in image_tower_weights(model).items()}
    theta_1 = fine_tuned(theta_0)
    plain = with_weights(model, {name: x.clone() for name, x in theta_0.items()})
    carried = image_tower_weights(plain)
    head = build_zero_shot_head(model, processor, WORDS, TEMPLATE)
    live = LivePatch(model, processor, Line(theta_0, theta_1))
    pixels = live.pixels(Image.effect_noise((224, 224), 80).convert("RGB"))

    @torch.inference_mode()
    def in_turn(alpha: float) -> Tensor:
        for name, x in theta_0.items():
            torch.lerp(x, theta_1[name], alpha, out=carried[name])
        output = plain.get_image_features(pixel_values=pixels.pixel_values)
        return head(output.pooler_output)[0].softmax(dim=-1)

    def ours(alpha: float) -> Tensor:
        return live.probabilities(pixels, WORDS, alpha=alpha)

    difference = float((in_turn(0.35) - ours(0.35)).abs().max())
    alphas = count(1)
    ways = {name: partial(at_next, way, alphas) for name, way in (("plain", in_turn), ("ours", ours))}
    runs = interleave(ways, rounds)
    row = compare("a move of the demo's slider, ViT-B/32, fp32", runs["plain"], runs["ours"], difference=difference)
    fast = statistics.median(run.seconds for run in runs["ours"]) < MOST_SECONDS
    met = fast and difference < MOST_DIFFERENCE
    return replace(row, target=f"under {MOST_SECONDS} s, difference at most {MOST_DIFFERENCE:g}", met=met)


def at_next(way: Callable[[float], Tensor], numbers: Iterator[int]) -> Run:
    """Time a way at an alpha that has not been visited."""
    alpha = next(numbers) / 1009
    return seconds(partial(way, alpha))


if __name__ == "__main__":
    main()
