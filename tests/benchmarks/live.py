"""One move of the demo's slider: theta_alpha and the answers for one picture, with a ViT-B/32.

    python tests/benchmarks/live.py [--rounds 5] [--quick] [--json FILE]

The plain way writes theta_alpha into a model with `torch.lerp`, runs it, and compares the picture with the words.
Every move goes to another alpha, so no answer is known. Where bfloat16 is much faster, a moving slider is followed in
bf16, and fp32 answers when it rests; elsewhere, fp32 does both.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count

import torch
from common import Row, Run, arguments, compare, interleave, report, seconds
from inputs import fine_tuned, make_clip, make_processor
from PIL import Image
from torch import Tensor

from hf_paint import build_zero_shot_head
from hf_paint.merging.path import Line
from hf_paint.models.towers import image_tower_weights, with_weights
from hf_paint.report.live import TEMPLATE, LivePatch
from hf_paint.report.live_tower import multiplies_faster


WORDS = [f"thing {number}" for number in range(10)]
MOST_SECONDS = 0.1
MOST_DIFFERENCES = {"fp32": 1e-5, "bf16": 0.03}


def main() -> None:
    """Measure moves."""
    parsed = arguments(__doc__)
    report(measure(parsed.rounds * 4, quick=parsed.quick), parsed)


def measure(rounds: int, *, quick: bool) -> list[Row]:
    """Time all ways at one alpha after another, and compare their probabilities."""
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

    def ours(alpha: float, *, rough: bool) -> Tensor:
        return live.probabilities(pixels, WORDS, alpha=alpha, rough=rough)

    alphas = count(1)
    kinds = {"fp32": False, "bf16": True} if multiplies_faster(torch.bfloat16) else {"fp32": False}
    ways = {"plain": in_turn} | {kind: partial(ours, rough=rough) for kind, rough in kinds.items()}
    at = {kind: 0.3 + 0.1 * number for number, kind in enumerate(kinds)}
    differences = {kind: float((in_turn(alpha) - ways[kind](alpha)).abs().max()) for kind, alpha in at.items()}
    runs = interleave({name: partial(at_next, way, alphas) for name, way in ways.items()}, rounds)
    return [_row(kind, runs["plain"], runs[kind], differences[kind], follows=kind == [*kinds][-1]) for kind in kinds]


def _row(kind: str, plain: list[Run], ours: list[Run], difference: float, *, follows: bool) -> Row:
    """Compare both ways; the kind that follows the slider must be fast, and fp32 must be exact."""
    row = compare(f"a move of the demo's slider, ViT-B/32, {kind}", plain, ours, difference=difference)
    most = MOST_DIFFERENCES[kind]
    fast = not follows or statistics.median(run.seconds for run in ours) < MOST_SECONDS
    target = f"under {MOST_SECONDS} s, " if follows else ""
    return replace(row, target=f"{target}difference at most {most:g}", met=fast and difference < most)


def at_next(way: Callable[[float], Tensor], numbers: Iterator[int]) -> Run:
    """Time a way at an alpha that has not been visited."""
    alpha = next(numbers) / 1009
    return seconds(partial(way, alpha))


if __name__ == "__main__":
    main()
