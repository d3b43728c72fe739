import numpy as np
import pytest
import torch

from drawn_tasks import write_task
from hf_paint.data.images import CachedImages
from hf_paint.data.prefetching import DeviceCopies, prefetch
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform


@pytest.fixture(scope="module")
def images(processor, tmp_path_factory):
    task = write_task(tmp_path_factory.mktemp("data"), test=40)
    split = load_splits(task, ("test",))["test"]
    return CachedImages(split, PixelTransform(processor), cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("rows", [[0], [3, 4, 5], [5, 4, 3], [3, 5], [2, 2], [0, 2, 1]])
def test_a_batch_has_the_images_that_are_asked_for(images, rows):
    batch = images.__getitems__(rows)
    assert np.array_equal(batch["pixel_values"].numpy(), np.stack([images.pixels[row] for row in rows]))
    assert batch["labels"].tolist() == [int(images.labels[row]) for row in rows]


@pytest.mark.parametrize("rows", [None, [7, 1, 2, 3, 0]])
def test_batches_are_all_images_in_order(images, rows):
    wanted = list(range(len(images))) if rows is None else rows
    batches = list(prefetch(images.batches(4, rows), torch.device("cpu")))
    assert [len(batch["labels"]) for batch in batches] == [len(wanted[i : i + 4]) for i in range(0, len(wanted), 4)]
    pixels = torch.cat([batch["pixel_values"] for batch in batches])
    assert np.array_equal(pixels.numpy(), np.stack([images.pixels[row] for row in wanted]))


def test_consecutive_images_are_not_copied(images):
    batch = images.__getitems__([1, 2, 3])["pixel_values"]
    assert batch.data_ptr() == images.pixels[1:].ctypes.data


class FakeCuda:
    """Records in which order a GPU would copy and wait."""

    def __init__(self, monkeypatch):
        self.calls = []
        stream = type("Stream", (), {"wait_stream": lambda _, other: self.calls.append("wait")})
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream())
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: torch.no_grad())
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda x, stream: self.calls.append("record"))
        monkeypatch.setattr(DeviceCopies, "_copy", lambda copies, x: self.calls.append("copy") or x)


def test_a_gpu_gets_every_batch_once_and_the_next_one_is_copied_before_it_is_needed(images, monkeypatch):
    cuda = FakeCuda(monkeypatch)
    batches = prefetch(images.batches(8), torch.device("cuda", 0))
    found = [next(batches)]
    while cuda.calls.count("copy") < 4:  # two batches of two tensors, the second copied in the background
        pass
    found += list(batches)
    assert torch.equal(torch.cat([batch["labels"] for batch in found]), images.labels)
    assert cuda.calls.count("wait") == len(found) == len(images) // 8
    assert cuda.calls.count("record") == cuda.calls.count("copy") == 2 * len(found)


def test_an_error_while_fetching_ahead_is_raised_where_the_batch_is_used(monkeypatch):
    FakeCuda(monkeypatch)

    def broken():
        yield {"labels": torch.zeros(1)}
        raise OSError("no such picture")

    batches = prefetch(broken(), torch.device("cuda", 0))
    assert next(batches)["labels"].tolist() == [0]
    with pytest.raises(OSError, match="no such picture"):
        next(batches)
