"""The tags of images: EXIF, and the directory of a TIFF file. Pillow copies all of their values into memory.

Nothing keeps the values from overlapping, so that a file of a few kilobytes may claim gigabytes.
"""

import struct

from PIL import Image

from hf_paint.errors import InputError


ORDERS = {b"II": "<", b"MM": ">"}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Type of a value -> its size in bytes (TIFF 6.0, Section 2, and BigTIFF)."""
LAYOUTS = {42: ("L", "H", "HHLL", 4), 43: ("4xQ", "Q", "HHQQ", 8)}
"""Version -> place of the directory, its length, an entry (tag, type, number of values, place), bytes in an entry."""
MOST = 64 << 20
"""Bytes that overlapping values may take. Damaged tags of photos take less."""
PREFIX = b"Exif\0\0"
RAW_PROFILE = "Raw profile type exif"
"""The key under which some programs write EXIF into a PNG, in hexadecimal digits after three lines."""


def refuse_overlapping_exif(image: Image.Image) -> None:
    """Refuse an image whose EXIF is not what `refuse_overlapping_tags` accepts.

    Raises:
        InputError: If the values overlap.
    """
    exif = image.info.get("exif") or b""
    if not exif and RAW_PROFILE in image.info:
        exif = bytes.fromhex("".join(image.info[RAW_PROFILE].split("\n")[3:]))
    refuse_overlapping_tags(exif.removeprefix(PREFIX))


def refuse_overlapping_tags(data: bytes) -> None:
    """Refuse tags whose values, copied one by one, are much larger than the data that hold them.

    Args:
        data: EXIF without its prefix, or the bytes of a TIFF file. Anything else is accepted.

    Raises:
        InputError: If the values overlap.
    """
    order = ORDERS.get(data[:2])
    if order is None or len(data) < 16:
        return
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    if version not in LAYOUTS:
        return
    position, number, entry = (f"{order}{part}" for part in LAYOUTS[version][:3])
    try:
        (start,) = struct.unpack_from(position, data, 4)
        (count,) = struct.unpack_from(number, data, start)
    except struct.error:  # a truncated file, of which Pillow reads nothing
        return
    start, width = start + struct.calcsize(number), struct.calcsize(entry)
    complete = min(count, (len(data) - start) // width)
    copied = 0
    for _, kind, values, place in struct.iter_unpack(entry, data[start : start + complete * width]):
        size = SIZES.get(kind, 0) * values
        copied += min(size, max(0, len(data) - place)) if size > LAYOUTS[version][3] else 0
    if copied > len(data) + MOST:
        raise InputError(f"Its {complete} tags would take {copied} bytes of {len(data)}: their values overlap.")
