"""Image columns as a data set stores them: encoded bytes, arrays, or paths to files that may be replaced."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from datasets import Array2D, Array3D, Dataset, Image, IterableDataset, LargeList, List
from datasets.utils.file_utils import xopen
from PIL import ExifTags, Image as PILImage
from PIL.ImageOps import exif_transpose

from hf_paint.data.image_tags import ORDERS, refuse_overlapping_exif, refuse_overlapping_tags
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.rgb import array_to_rgb, is_deep, to_rgb


Rows: TypeAlias = Dataset | IterableDataset
RowsT = TypeVar("RowsT", Dataset, IterableDataset)
Row = dict[str, Any]
"""Data set row, column -> value."""
StoredValue: TypeAlias = Mapping[str, bytes | str | None]
"""An image as it is stored, with the keys `bytes` and `path`."""
ORIENTATION = ExifTags.Base.Orientation


class StoredImage(Image):
    """An image column in which deep images are RGB, if their file says how to turn them.

    `datasets` turns an image by its orientation, and thereby loses the other tags of a TIFF, which tell what its
    values mean. Images are bounded: Pillow refuses more than 179 million pixels before it decodes them, and tags that
    overlap are refused before they are read. Of an animation or a file of several pages, the first is read.
    """

    def decode_example(
        self, value: StoredValue, token_per_repo_id: dict[str, str | bool | None] | None = None
    ) -> PILImage.Image:
        """Decode an image; only images that are turned have no format.

        Raises:
            Exception: If it cannot be decoded; Pillow and `datasets` raise many types of errors.
        """
        path, data = value["path"], value["bytes"]
        if not isinstance(data, bytes) and not (isinstance(path, str) and is_local(path) and "::" not in path):
            remote: PILImage.Image = super().decode_example(value, token_per_repo_id)
            return remote
        _refuse_overlaps(path, data)
        image: PILImage.Image = PILImage.open(BytesIO(data) if isinstance(data, bytes) else str(path))
        image.load()
        refuse_overlapping_exif(image)
        orientation = image.getexif().get(ORIENTATION)
        if orientation is None:
            return image
        if is_deep(image):
            image = to_rgb(image)
            image.getexif()[ORIENTATION] = orientation
        return exif_transpose(image)


def _refuse_overlaps(path: object, data: object) -> None:
    """Refuse a TIFF file whose tags overlap; Pillow reads them as it opens the file."""
    if isinstance(data, bytes):
        refuse_overlapping_tags(data)
        return
    with Path(str(path)).open("rb") as file:
        if (head := file.read(2)) in ORDERS:
            refuse_overlapping_tags(head + file.read())


_DECODER = StoredImage()


def stored_bytes(image: StoredValue) -> bytes:
    """Return the bytes of an image, which are stored in the data set, in a file, or in a file of an archive.

    Raises:
        OSError: If the file cannot be read.
    """
    data, path = image["bytes"], image["path"]
    if isinstance(data, bytes):
        return data
    with xopen(str(path), "rb") as file:
        content: bytes = file.read()
    return content


def cast_images(table: Rows, column: str) -> Rows:
    """Return a table with PIL images in a column of bytes or paths; a column of arrays is returned as it is.

    `datasets` would convert arrays with several channels to uint8 modulo 256.
    """
    return table if _array_dtype(table, column) else table.cast_column(column, StoredImage())


def read_image(row: Row, rows: Rows, column: str) -> PILImage.Image:
    """Return the RGB image in a row of a table that has passed through `cast_images`.

    Raises:
        InputError: If there is no image, or it is unclear how to convert it to RGB.
    """
    image = row[column]
    if isinstance(image, PILImage.Image):
        return to_rgb(image)
    if image is None:
        raise InputError("The row has no image.")
    return array_to_rgb(np.asarray(image, dtype=_array_dtype(rows, column)))


def without_decoding(rows: RowsT, column: str) -> RowsT:
    """Return rows that hold images as they are stored."""
    return rows if _array_dtype(rows, column) else rows.cast_column(column, Image(decode=False))


def decode_value(value: object, rows: Rows, column: str) -> tuple[PILImage.Image, str]:
    """Decode an image of `without_decoding`; return what `read_image` makes of it, and the mode in which it is stored.

    Raises:
        Exception: If it cannot be decoded; Pillow and `datasets` raise many types of errors.
    """
    image = _DECODER.decode_example({"bytes": None, "path": None} | value) if isinstance(value, dict) else value
    rgb = read_image({column: image}, rows, column)
    return rgb, image.mode if isinstance(image, PILImage.Image) else "array"


def stored_name(value: object) -> str:
    """Return the path of the file that holds an image, or the name that is stored with it, or an empty string."""
    return str(value.get("path") or "") if isinstance(value, Mapping) else ""


def with_file_states(fingerprint: str, rows: Rows, column: str) -> str:
    """Extend a fingerprint of rows by the size and modification time of each image file that they point to.

    `datasets` fingerprints only the paths, and would miss files that are replaced. If the rows contain the images, the
    fingerprint is returned unchanged. Files that are not on this machine, like those behind a URL, have no state.
    """
    states = [_state(path) for path in image_files(rows, column)]
    return fingerprint_values(fingerprint, states) if any(states) else fingerprint


def _array_dtype(rows: Rows, column: str) -> np.dtype[Any] | None:
    """Return the type of the values of an array column, or None for any other column."""
    feature = (rows.features or {}).get(column)
    if not isinstance(feature, (Array2D, Array3D, List, LargeList)):
        return None
    while isinstance(feature, (List, LargeList)):
        feature = feature.feature
    dtype: np.dtype[Any] = np.dtype(feature.dtype)
    return dtype


def image_files(rows: Rows, column: str) -> Iterator[str]:
    """Yield the paths of the images that are not contained in the rows."""
    if _array_dtype(rows, column) or _holds_images(rows, column):
        return
    encoded = rows.cast_column(column, Image(decode=False)).select_columns([column])
    if isinstance(encoded, Dataset):
        if any(chunk.field("bytes").null_count for chunk in encoded.data.column(column).chunks):
            for batch in encoded.with_format("arrow").iter(1000):
                for chunk in batch.column(column).chunks:
                    yield from chunk.field("path").filter(chunk.field("bytes").is_null()).drop_null().to_pylist()
        return
    images = (row[column] or {} for row in encoded)
    first = next(images, {})
    if first.get("path") and first.get("bytes") is None and is_local(first["path"]):  # bytes are not read twice
        yield from (image["path"] for image in chain([first], images) if image.get("path"))


def _holds_images(rows: Rows, column: str) -> bool:
    """Return whether a table contains all its images, which its columns tell without a cast or a copy."""
    if not isinstance(rows, Dataset) or not isinstance(rows.features.get(column), Image):
        return False
    return not any(chunk.field("bytes").null_count for chunk in rows.data.column(column).chunks)


def is_local(path: str) -> bool:
    """Return whether an image is in a file on this machine, or in an archive on it."""
    return "://" not in _file(path)


def _file(path: str) -> str:
    """Return the path of a file, or of the archive that contains it, as in `zip://dog.png::/data/photos.zip`."""
    return path.rpartition("::")[2]


def _state(path: str) -> list[int] | None:
    """Return the size and modification time of a file, or None if there is no such file on this machine."""
    try:
        status = Path(_file(path)).stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]
