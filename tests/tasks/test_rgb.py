"""Images of every mode against formulas written out."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import transformers
from packaging.version import Version
from PIL import Image
from transformers import CLIPImageProcessorPil
from transformers.image_utils import load_image

from hf_paint import InputError
from hf_paint.tasks.corruptions import Corruption
from hf_paint.tasks.probes import fingerprint_code
from hf_paint.tasks.rgb import array_to_rgb, levels, to_rgb
from hf_paint.tasks.typographic import TypographicAttack


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)


def stored(image, image_format):
    """The image as it is read from a file."""
    file = io.BytesIO()
    image.save(file, image_format)
    return Image.open(file)


def grey(levels):
    return np.repeat(levels[..., None], 3, axis=2)


def nearest(values, full):
    """The nearest of 256 levels, in whole numbers."""
    return np.array([(2 * 255 * int(value) + full) // (2 * full) for value in values.flat]).reshape(values.shape)


def tiff(values, *, bits, photometric=1):
    """A TIFF with one channel, uncompressed, little endian."""
    words = "".join(f"{value:0{bits}b}" for value in values.flat)
    data = bytes(int(words[i : i + 8], 2) for i in range(0, len(words), 8))
    if bits == 16:
        data = values.astype("<u2").tobytes()
    height, width = values.shape
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 200,
        277: 1,
        278: height,
        279: len(data),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    return Image.open(io.BytesIO(header.ljust(200, b"\0") + data))


DEEP_IMAGES = {
    "16-bit PNG": (lambda: stored(Image.fromarray(DEEP), "PNG"), nearest(DEEP, 65535)),
    "16-bit TIFF": (lambda: stored(Image.fromarray(DEEP), "TIFF"), nearest(DEEP, 65535)),
    "16-bit TIFF, big endian": (lambda: stored(Image.fromarray(DEEP.astype(">u2")), "TIFF"), nearest(DEEP, 65535)),
    "16-bit TIFF, white is zero": (lambda: tiff(DEEP, bits=16, photometric=0), 255 - nearest(DEEP, 65535)),
    "12-bit TIFF": (lambda: tiff(DEEP >> 4, bits=12), nearest(DEEP >> 4, 4095)),
    "16-bit PGM": (lambda: stored(Image.fromarray(DEEP), "PPM"), nearest(DEEP, 65535)),
    "16-bit JPEG 2000": (lambda: stored(Image.fromarray(DEEP), "JPEG2000"), nearest(DEEP, 65535)),
    "black": (lambda: Image.new("I;16", (16, 16)), np.zeros((16, 16))),
    "float TIFF from 0 to 1": (lambda: stored(Image.fromarray(RAMP / np.float32(255)), "TIFF"), RAMP),
    "float TIFF from 0 to 255": (lambda: stored(Image.fromarray(RAMP + np.float32(0)), "TIFF"), RAMP),
    "32-bit TIFF from 0 to 255": (lambda: stored(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), RAMP),
}


@pytest.mark.parametrize(("make", "levels"), DEEP_IMAGES.values(), ids=DEEP_IMAGES)
def test_deep_images_are_scaled_by_the_range_of_their_type(make, levels):
    image = make()
    assert image.mode[0] in "IF"
    assert np.array_equal(to_rgb(image), grey(levels))


def test_modes_of_eight_bits_are_those_of_pillow_and_of_a_formula():
    generator = np.random.default_rng(0)
    colours = generator.integers(256, size=(16, 16, 4), dtype=np.uint8)
    cyan, magenta, yellow, black = colours.astype(int).transpose(2, 0, 1)
    palette = Image.fromarray(RAMP).convert("P")
    palette.putpalette(generator.integers(256, size=768, dtype=np.uint8).tobytes())
    palette.info["transparency"] = 3
    table = np.array(palette.getpalette()).reshape(256, 3)
    expected = {
        "RGB": (Image.fromarray(colours[..., :3]), colours[..., :3]),
        "RGBA": (Image.fromarray(colours), colours[..., :3]),
        "LA": (Image.fromarray(colours[..., :2]), grey(colours[..., 0])),
        "L": (Image.fromarray(RAMP), grey(RAMP)),
        "1": (Image.fromarray(RAMP > 99), grey(255 * (RAMP > 99))),
        "P": (stored(palette, "PNG"), table[np.asarray(palette)]),
    }
    for mode, (image, pixels) in expected.items():
        assert image.mode == mode
        assert np.array_equal(to_rgb(image), pixels), mode
    cmyk = Image.frombytes("CMYK", (16, 16), colours.tobytes())
    inks = np.stack([(255 - ink) * (255 - black) / 255 for ink in (cyan, magenta, yellow)], axis=-1)
    assert np.abs(np.asarray(to_rgb(cmyk)) - inks).max() <= 1
    for image in (*(image for image, _ in expected.values()), cmyk):
        assert np.array_equal(to_rgb(image), image.convert("RGB"))


def transparent_files():
    """Name -> a file with transparency: an index or a table of a palette, a channel, or one colour."""
    generator = np.random.default_rng(0)
    colours = generator.integers(256, size=(16, 16, 4), dtype=np.uint8)
    palette = Image.fromarray(colours[..., :3]).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    images = {
        "palette, index, PNG": (palette, "PNG", {"transparency": 3}),
        "palette, index, GIF": (palette, "GIF", {"transparency": 3}),
        "palette, table": (palette, "PNG", {"transparency": bytes([0, 128, 255] * 5)}),
        "RGBA": (Image.fromarray(colours), "PNG", {}),
        "LA": (Image.fromarray(colours[..., :2]), "PNG", {}),
        "one colour": (Image.fromarray(colours[..., :3]), "PNG", {"transparency": tuple(colours[0, 0, :3].tolist())}),
        "grey, one level": (Image.fromarray(RAMP), "PNG", {"transparency": 5}),
    }
    for name, (image, image_format, keys) in images.items():
        file = io.BytesIO()
        image.save(file, image_format, **keys)
        yield name, file.getvalue()


def test_transparency_is_dropped_as_pipelines_do():
    for name, data in transparent_files():
        ours = np.asarray(to_rgb(Image.open(io.BytesIO(data))))
        assert np.array_equal(ours, load_image(Image.open(io.BytesIO(data)))), name
        assert np.array_equal(ours, Image.open(io.BytesIO(data)).convert("RGB")), name


@pytest.mark.skipif(Version(transformers.__version__) < Version("5.20"), reason="older processors drop some of it too")
def test_transparency_is_not_put_on_white_as_processors_do():
    keep = dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize"), False)
    processor, differ = CLIPImageProcessorPil(**keep), set()

    def processed(image):
        return processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)

    for name, data in transparent_files():
        ours = np.asarray(to_rgb(Image.open(io.BytesIO(data))))
        given = processed(Image.open(io.BytesIO(data)))
        white = Image.open(io.BytesIO(data)).convert("RGBA")
        expected = Image.alpha_composite(Image.new("RGBA", white.size, "white"), white).convert("RGB")
        assert np.abs(given - np.asarray(expected, dtype=np.int64)).max() <= 1, name
        assert np.array_equal(
            processor(Image.fromarray(ours), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0), ours
        )
        if not np.array_equal(ours, given):
            differ.add(name)
    assert {"palette, index, PNG", "palette, index, GIF", "palette, table", "RGBA", "LA"} <= differ


def test_a_deep_image_is_scaled_in_little_memory(monkeypatch):
    values = np.arange(1 << 21, dtype=np.uint16).reshape(1 << 10, 1 << 11)
    monkeypatch.setattr("hf_paint.tasks.rgb.BLOCK", 1 << 14)
    tracemalloc.start()
    scaled = levels(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(scaled, (2 * 255 * values.astype(np.int64) + 65535) // (2 * 65535))
    assert peak < 3 * scaled.nbytes  # float64 would take 8 bytes for each of them


UNCLEAR = {
    "12 bits in 32": np.linspace(0, 4095, 256).astype(np.int32).reshape(16, 16),
    "negative": RAMP.astype(np.int32) - 1,
    "from -1 to 1": RAMP / np.float32(127.5) - 1,
    "above 255": RAMP + np.float32(0.5) + 1,
    "not a number": np.where(RAMP > 9, np.nan, 0).astype(np.float32),
    "infinite": np.where(RAMP > 9, np.inf, 0).astype(np.float32),
    "8 bits in 16": RAMP.astype(np.uint16),
}


@pytest.mark.parametrize("values", UNCLEAR.values(), ids=UNCLEAR)
def test_images_without_a_clear_white_are_refused(values):
    message = f"The image has {values.dtype.name} values from .*unclear which value is white. Store 8-bit values"
    with pytest.raises(InputError, match=message):
        to_rgb(Image.fromarray(values))
    with pytest.raises(InputError, match=message):
        array_to_rgb(values)
    for change in (
        Corruption(name="blur", severity=1),
        lambda image: TypographicAttack()(image, 0, ["a", "b"], split="test", row=0),
    ):
        with pytest.raises(InputError, match=message):
            change(Image.fromarray(values))


def test_arrays_follow_the_same_rules():
    colour = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)
    for values in (
        *(colour, colour.astype(np.int64), colour.astype(np.uint16) * 257, colour / 255, (colour / 255).astype("f2")),
        *(colour.astype(np.float32), np.dstack([colour, RAMP])),
    ):
        assert np.array_equal(array_to_rgb(values), colour)
    for values in (RAMP, RAMP[..., None], RAMP.astype(np.int64), RAMP.astype(">u2") * 257, np.dstack([RAMP, RAMP.T])):
        assert np.array_equal(array_to_rgb(values), grey(RAMP))
    assert np.array_equal(array_to_rgb(RAMP > 9), grey(255 * (RAMP > 9)))
    for shape in [(3, 16, 16), (16,), (16, 0), (16, 16, 5), (1, 16, 16, 3)]:
        with pytest.raises(InputError, match=r"must be an array of shape \(height, width\) or .*got \("):
            array_to_rgb(np.zeros(shape, dtype=np.uint8))


def test_attacks_and_corruptions_see_deep_images_like_their_eight_bit_copies():
    generator = np.random.default_rng(0)
    plain = generator.integers(256, size=(40, 50), dtype=np.uint8)
    images = [Image.fromarray(plain), Image.fromarray(plain.astype(np.uint16) * 257)]
    for change in (
        Corruption(name="noise", severity=3),
        lambda image: TypographicAttack(image_size=64)(image, 0, ["a", "b"], split="test", row=0),
    ):
        first, second = map(change, images)
        assert first.tobytes() == second.tobytes()


def test_code_that_makes_other_pixels_has_another_fingerprint(monkeypatch):
    corruption, attack = Corruption(name="blur", severity=1), TypographicAttack()
    before = [fingerprint_code(to_rgb), corruption.identity, attack.identity]
    assert [fingerprint_code(to_rgb), corruption.identity, attack.identity] == before
    monkeypatch.setattr("hf_paint.tasks.rgb.levels", lambda values, **_: (values > 9).astype(np.uint8))
    after = [fingerprint_code(to_rgb), corruption.identity, attack.identity]
    assert all(old != new for old, new in zip(before, after, strict=True))
