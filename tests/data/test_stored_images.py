"""Files that are replaced, and deep images and strips, as a user evaluates them."""

import io
import json
import os
import struct

import numpy as np
import pytest
import yaml
from datasets import Array2D, Array3D, ClassLabel, Dataset, Features, Image as ImageFeature, List, Value
from PIL import Image, TiffImagePlugin

from drawn_tasks import draw_rows, write_task
from hf_paint import InputError, Task
from hf_paint.cli.main import main
from hf_paint.data.images import CachedImages, decode, stream_rows
from hf_paint.data.splits import load_splits
from hf_paint.data.stored_images import decode_value, with_file_states
from hf_paint.data.transforms import PixelTransform
from printed import printed_rows


CLASSES = ["one", "two"]
COUNT = 6


def definition(name, kind, files, **keys):
    source = {"data_dir": str(files)} if kind == "imagefolder" else {"data_files": {"test": str(files)}}
    splits = {"train": None, "validation": None, "test": "train" if kind == "imagefolder" else "test"}
    names = {"name": name, "dataset": kind, "class_names": CLASSES, "templates": ["a photo of a {}."]}
    return names | source | {"splits": splits} | keys


def write_images(folder, seed, suffix="png", size=(40, 36)):
    """Write images of two classes in turn, and return their paths; the same names for every seed."""
    paths = []
    for index, image in enumerate(draw_rows(COUNT, seed, size=size)["image"]):
        paths.append(folder / CLASSES[index % 2] / f"{index}.{suffix}")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        image.save(paths[-1])
    return paths


def write_table(folder, kind, paths):
    """Write a table of paths, and return its path."""
    rows = [{"image": str(path), "label": path.parent.name} for path in paths]
    if kind == "csv":
        (folder / "rows.csv").write_text("image,label\n" + "".join(f"{r['image']},{r['label']}\n" for r in rows))
    elif kind == "json":
        (folder / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        features = Features({"image": ImageFeature(), "label": Value("string")})
        table = Dataset.from_list([row | {"image": {"path": row["image"]}} for row in rows], features=features)
        table.data.table.to_pandas().to_parquet(folder / "rows.parquet")  # `Dataset.to_parquet` would read the files
    return folder / f"rows.{kind}"


def pixels_of(task, processor, cache):
    return CachedImages(load_splits(task, ("test",))["test"], PixelTransform(processor), cache_dir=cache).pixels


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "imagefolder"])
@pytest.mark.parametrize("kept", ["size", "time"])
def test_replaced_files_are_decoded_again(kind, kept, streaming, processor, tmp_path):
    suffix = "bmp" if kept == "size" else "png"
    paths = write_images(tmp_path / "images", 0, suffix)
    files = tmp_path / "images" if kind == "imagefolder" else write_table(tmp_path, kind, paths)
    task = Task.from_dict(definition("replaced", kind, files, streaming=streaming))
    before = pixels_of(task, processor, tmp_path / "cache").copy()
    assert np.array_equal(pixels_of(task, processor, tmp_path / "cache"), before)
    assert len(list((tmp_path / "cache" / "pixels").glob("*/"))) == 1
    states = [path.stat() for path in paths]
    write_images(tmp_path / "images", 1, suffix, size=(40, 36) if kept == "size" else (44, 36))
    for path, state in zip(paths, states, strict=True):
        assert (path.stat().st_size == state.st_size) == (kept == "size")
        if kept == "time":
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = pixels_of(task, processor, tmp_path / "cache")
    assert np.array_equal(after, pixels_of(task, processor, tmp_path / "new cache"))
    assert not np.array_equal(after, before)


def test_a_table_with_its_images_is_not_copied_to_look_for_files(tmp_path, monkeypatch):
    rows = load_splits(write_task(tmp_path))["test"].rows
    monkeypatch.setattr(Dataset, "cast_column", lambda *_: pytest.fail("the table was copied"))
    assert with_file_states("as before", rows, "image") == "as before"


def test_a_deleted_file_is_named_though_its_pixels_were_cached(processor, tmp_path):
    paths = write_images(tmp_path / "images", 0)
    task = Task.from_dict(definition("deleted", "csv", write_table(tmp_path, "csv", paths)))
    pixels_of(task, processor, tmp_path / "cache")
    paths[3].unlink()
    with pytest.raises(InputError, match=r"Image 3 of the test split .*/3.png'"):
        pixels_of(task, processor, tmp_path / "cache")


def evaluate(capsys, model_folder, folder, *tasks):
    """Run the command and return the exit code, the numbers printed for each task, and the error."""
    paths = []
    for task in tasks:
        paths.append(str(folder / f"{task['name']}.yaml"))
        (folder / f"{task['name']}.yaml").write_text(yaml.safe_dump(task))
    code = main(["evaluate", model_folder, "--tasks", *paths, "--use_cpu"])
    output, error = capsys.readouterr()
    names = {task["name"] for task in tasks}
    return code, {row[0]: row[2:] for row in printed_rows(output) if row[0] in names}, error


def test_evaluate_sees_that_images_were_replaced(model_folder, tmp_path, capsys):
    task = definition("swap", "csv", write_table(tmp_path, "csv", write_images(tmp_path / "images", 0)))
    _, before, _ = evaluate(capsys, model_folder, tmp_path, task)
    write_images(tmp_path / "images", 1)
    write_images(tmp_path / "copies", 1)
    copies = definition("copies", "imagefolder", tmp_path / "copies")
    _, after, _ = evaluate(capsys, model_folder, tmp_path, task, copies)
    assert before["swap"] != after["swap"] == after["copies"]


def grey_rows():
    return [np.asarray(image.convert("L")) for image in draw_rows(COUNT, 0)["image"]]


def colour_rows():
    return [np.asarray(image) for image in draw_rows(COUNT, 0)["image"]]


def write_rows(folder, name, images, feature):
    features = Features({"image": feature, "label": ClassLabel(names=CLASSES)})
    rows = {"image": images, "label": [index % 2 for index in range(len(images))]}
    Dataset.from_dict(rows, features=features).to_parquet(folder / f"{name}.parquet")
    return definition(name, "parquet", folder / f"{name}.parquet")


def encoded(array, image_format):
    file = io.BytesIO()
    Image.fromarray(array).save(file, image_format)
    return {"bytes": file.getvalue(), "path": None}


def test_evaluate_gives_deep_images_the_numbers_of_their_eight_bit_copies(model_folder, tmp_path, capsys):
    grey, colour = grey_rows(), colour_rows()
    deep, part = [row.astype(np.uint16) * 257 for row in grey], np.float32(255)
    tasks = [
        write_rows(tmp_path, "grey", [encoded(row, "PNG") for row in grey], ImageFeature()),
        write_rows(tmp_path, "png", [encoded(row, "PNG") for row in deep], ImageFeature()),
        write_rows(tmp_path, "tiff", [encoded(row.astype(">u2"), "TIFF") for row in deep], ImageFeature()),
        write_rows(tmp_path, "pgm", [encoded(row, "PPM") for row in deep], ImageFeature()),
        write_rows(tmp_path, "floats", [encoded(row / part, "TIFF") for row in grey], ImageFeature()),
        write_rows(tmp_path, "array", deep, Array2D((36, 40), "uint16")),
        write_rows(tmp_path, "streamed_array", [row / part for row in grey], Array2D((36, 40), "float32"))
        | {"streaming": True},
        write_rows(tmp_path, "colour", [encoded(row, "PNG") for row in colour], ImageFeature()),
        write_rows(tmp_path, "bytes", colour, Array3D((36, 40, 3), "uint8")),
        write_rows(
            tmp_path, "deep_array", [r.astype(np.uint16) * 257 for r in colour], Array3D((36, 40, 3), "uint16")
        ),
        write_rows(tmp_path, "lists", [(row / 255).tolist() for row in colour], List(List(List(Value("float64"))))),
    ]
    code, numbers, _ = evaluate(capsys, model_folder, tmp_path, *tasks)
    assert code == 0
    assert {name: row for name, row in numbers.items() if row == numbers["grey"]}.keys() == {
        *("grey", "png", "tiff", "pgm", "floats", "array", "streamed_array")
    }
    assert {name: row for name, row in numbers.items() if row == numbers["colour"]}.keys() == {
        *("colour", "bytes", "deep_array", "lists")
    }


def test_evaluate_refuses_an_image_without_a_clear_white_by_name(model_folder, tmp_path, capsys):
    paths = write_images(tmp_path / "images", 0, "tiff")
    Image.fromarray(np.linspace(0, 4095, 400).astype(np.int32).reshape(20, 20)).save(paths[4])
    code, _, error = evaluate(capsys, model_folder, tmp_path, definition("scan", "imagefolder", tmp_path / "images"))
    assert code == 2
    assert (
        f"of the test split of task 'scan' cannot be read ('{paths[4]}'): The image has int32 values from 0 to 4095"
        in error
    )


def test_a_row_without_an_image_is_named(tmp_path):
    rows = [encoded(row, "PNG") for row in grey_rows()]
    task = Task.from_dict(write_rows(tmp_path, "gap", [*rows[:2], None, *rows[3:]], ImageFeature()))
    split = load_splits(task, ("test",))["test"]
    with pytest.raises(
        InputError, match="Image 2 of the test split of task 'gap' cannot be read: The row has no image"
    ):
        decode(split, 2)


def test_integers_outside_eight_bits_are_refused_instead_of_wrapped(tmp_path):
    images = [np.full((36, 40, 3), value).tolist() for value in (9, 300)]
    task = Task.from_dict(write_rows(tmp_path, "wrapped", images, List(List(List(Value("int64"))))))
    split = load_splits(task, ("test",))["test"]
    assert decode(split, 0).getpixel((0, 0)) == (9, 9, 9)
    with pytest.raises(InputError, match=r"Image 1 of the test split .* has int64 values from 300 to 300"):
        decode(split, 1)
    streamed = load_splits(Task.from_dict(task.to_dict() | {"streaming": True}), ("test",))["test"]
    with pytest.raises(InputError, match=r"Image 1 of the test split .* has int64 values from 300 to 300"):
        list(stream_rows(streamed))


def test_evaluate_of_a_strip_resizes_only_what_it_keeps(model_folder, tmp_path, capsys, monkeypatch):
    folder, plain, areas = tmp_path / "strips", tmp_path / "plain", []
    values = np.random.default_rng(0).integers(90, 160, size=(COUNT, 3), dtype=np.uint8)
    for index, value in enumerate(values):
        for path, shape in ((folder, (10_000, 1) if index % 3 else (1, 10_000)), (plain, (50, 50))):
            (path / CLASSES[index % 2]).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(np.broadcast_to(value, (*shape, 3)))
            image.save(path / CLASSES[index % 2] / f"{index}.png")
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *args: areas.append(size[0] * size[1]) or resize(self, size, *args)
    )
    tasks = [definition("strips", "imagefolder", folder), definition("plain", "imagefolder", plain)]
    code, numbers, _ = evaluate(capsys, model_folder, tmp_path, *tasks)
    assert (code, numbers["strips"]) == (0, numbers["plain"])
    assert max(areas) < 10_000


def write_tiff(path, values, tags):
    """Write a row of 12-bit values as an uncompressed TIFF, which Pillow cannot write."""
    bits = "".join(f"{value:012b}" for value in values)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = {256: len(values), 257: 1, 258: 12, 259: 1, 262: 1, 277: 1, 278: 1, 279: len(data)} | tags
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in sorted(tags.items()))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data)


@pytest.mark.parametrize("white", [0, 1])
@pytest.mark.parametrize("orientation", [1, 3])
def test_deep_tiffs_are_scaled_and_turned(tmp_path, white, orientation):
    values = [0, 1600, 3200, 4095]
    write_tiff(tmp_path / "12.tif", values, {274: orientation})
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262], tags[274] = white, orientation
    Image.fromarray(np.array([values], dtype=np.uint16) * 16).save(tmp_path / "16.tif", tiffinfo=tags)
    table = write_table(tmp_path, "json", [tmp_path / "12.tif", tmp_path / "16.tif"])
    split = load_splits(Task.from_dict(definition("t", "json", table, class_names=[tmp_path.name, "x"])))["test"]
    for row, full in ((0, 4095), (1, 65535 / 16)):
        expected = [round(255 * value / full) for value in values]
        if not (white or row == 0):  # Pillow reads no 12-bit images in which white is zero
            expected = [255 - value for value in expected]
        found = np.asarray(decode(split, row))[0]
        assert found.tolist() == [[value] * 3 for value in (expected if orientation == 1 else expected[::-1])]


def test_a_table_that_is_replaced_with_the_same_time_is_read_again(tmp_path):
    for seed, rows in ((1, 5), (2, 7)):
        task = write_task(tmp_path, train=10, test=rows, seed=seed)
        os.utime(task.data_files["test"], (1, 1))
        assert load_splits(task, ("test",))["test"].labels().tolist() == draw_rows(rows, seed + 1)["label"]


def turned_files():
    """Name -> a file with an orientation, or with tags that are damaged but small."""
    image = draw_rows(1, 0)["image"][0]
    for orientation in range(1, 10):
        exif = Image.Exif()
        exif[274] = orientation
        for image_format in ("JPEG", "PNG", "TIFF", "WEBP"):
            file = io.BytesIO()
            image.save(file, image_format, exif=exif)
            yield f"{image_format} {orientation}", file.getvalue()
    for mark, order in ((b"II", "<"), (b"MM", ">")):
        far = struct.pack(f"{order}2sHIHHHII", mark, 42, 8, 1, 0x10E, 7, 1 << 31, 26)
        file = io.BytesIO()
        image.save(file, "PNG", exif=far)
        yield f"damaged tags {mark}", file.getvalue()


def test_images_are_turned_as_by_datasets():
    rows = Dataset.from_dict({"image": [None]}, features=Features({"image": ImageFeature()}))
    for name, data in turned_files():
        value = {"bytes": data, "path": None}
        ours, _ = decode_value(value, rows, "image")
        assert np.array_equal(ours, ImageFeature().decode_example(value).convert("RGB")), name
