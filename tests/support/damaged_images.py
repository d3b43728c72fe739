"""Pictures that claim to be larger than they are."""

import struct
import zlib


def png_of(width, height, *, exif=b""):
    """A PNG of one bit per pixel whose pixels are missing, but for the first few rows."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min(height, 8) * (1 + (width + 7) // 8)))
    chunks = [(b"IHDR", header), *([(b"eXIf", exif)] if exif else []), (b"IDAT", pixels), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def overlapping_exif(count, size):
    """EXIF with an orientation and `count` tags, each of which claims the same `size` bytes."""
    return tags(b"MM", ">", count, size)


def overlapping_tiff(count, size):
    """A TIFF file whose tags claim the same bytes."""
    return tags(b"II", "<", count, size)


def tags(mark, order, count, size):
    """A directory of tags in either byte order."""
    entries = [struct.pack(f"{order}HHIHH", 0x112, 3, 1, 6, 0)]
    start = 8 + 2 + 12 * (count + 1) + 4
    entries += [struct.pack(f"{order}HHII", 0x200 + number, 7, size, start) for number in range(count)]
    header = struct.pack(f"{order}2sHIH", mark, 42, 8, count + 1)
    return header + b"".join(entries) + bytes(4) + bytes(size)
