"""Typographic attacks: ours against Pillow's own outlined text, in images per second of one core.

    python tests/benchmarks/typographic.py [--rounds 5] [--quick] [--json FILE]

The images are 224 x 224, so nothing is resized. Names are those of SUN397 and, as the worst case, names of up
to 40 distinct random letters. Times are processor times, independent of other load.
"""

import string
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from common import Row, Run, arguments, compare, interleave, report
from PIL import Image, ImageDraw, ImageFont

from hf_paint import TypographicAttack, get_task
from hf_paint.tasks.lettering import draw_lettering


MIN_RATE = 500
SIDE = 224


def main() -> None:
    """Measure both kinds of names."""
    parsed = arguments(__doc__)
    count = 100 if parsed.quick else 1000
    generator = np.random.default_rng(0)
    letters = list(string.ascii_letters + "      ")
    longest = ["".join(generator.choice(letters, generator.integers(1, 41))).strip() or "x" for _ in range(20 * count)]
    kinds = {"names of SUN397": get_task("sun397").class_names or (), "up to 40 random letters": longest}
    report([measure(kind, names, count, parsed.rounds) for kind, names in kinds.items()], parsed)


def measure(kind: str, names: Sequence[str], count: int, rounds: int) -> Row:
    """Attack images with new rows, and hence new words, in each round."""
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    image, attack, rows = Image.fromarray(pixels), TypographicAttack(), iter(range(10**9))

    def ours() -> None:
        for _ in range(count):
            row = next(rows)
            attack(image, row % len(names), names, split="test", row=row)

    def plain() -> None:
        for _ in range(count):
            row = next(rows)
            drawn = draw_lettering(names[row % len(names)], SIDE, attack.font_files, np.random.default_rng(row))
            font = ImageFont.truetype(drawn.font, drawn.size)
            ImageDraw.Draw(image.copy()).multiline_text(
                drawn.position, drawn.text, drawn.colour, font, stroke_width=1, stroke_fill=drawn.outline
            )

    runs = interleave({"plain": partial(processor_seconds, plain), "ours": partial(processor_seconds, ours)}, rounds)
    row = compare(f"typographic attack, {kind}", runs["plain"], runs["ours"], unit="images", work=(count, count))
    rate = count / float(np.median([run.seconds for run in runs["ours"]]))
    return replace(row, target=f"at least {MIN_RATE} images/s", met=rate >= MIN_RATE)


def processor_seconds(way: Callable[[], None]) -> Run:
    """Time one call on one core."""
    start = time.process_time()
    way()
    return Run(time.process_time() - start)


if __name__ == "__main__":
    main()
