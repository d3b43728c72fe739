import pytest

from hf_paint import InputError, PaintTrainingArguments
from hf_paint.training.batch_size import images_per_step, keep_batch_size


@pytest.fixture
def on(monkeypatch, tmp_path):
    """A function that returns training arguments as they are on some number of processes."""

    def make(world_size, **keys):
        monkeypatch.setattr(PaintTrainingArguments, "world_size", property(lambda self: world_size))
        return PaintTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **keys)

    return make


@pytest.mark.parametrize("micro", [1, 6, 16, 128])
@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_the_batch_is_kept_or_refused(micro, accumulation, on):
    for started in range(1, 9):
        batch = started * micro * accumulation
        for now in range(1, 9):
            keys = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": accumulation}
            args = on(now, **keys)
            if batch % now:
                with pytest.raises(InputError, match=rf"started with {batch} images .* when {now} processes share"):
                    keep_batch_size(args, started)
                continue
            kept = keep_batch_size(args, started)
            assert images_per_step(kept, now) == batch
            assert 1 <= kept.per_device_train_batch_size <= micro  # what fitted into memory still fits
            assert args.given().get("gradient_accumulation_steps", 1) == accumulation  # the recipe stays the same


def test_the_micro_batch_stays_where_accumulation_can_make_up(on):
    kept = keep_batch_size(on(2, per_device_train_batch_size=16), 8)
    assert (kept.per_device_train_batch_size, kept.gradient_accumulation_steps) == (16, 4)


def test_a_batch_size_found_by_trying_is_kept_only_by_accumulation(on):
    """A checkpoint holds the size that fitted into memory, which replaces that of the arguments."""
    keys = {"per_device_train_batch_size": 16, "auto_find_batch_size": True}
    assert keep_batch_size(on(1, **keys), 4).gradient_accumulation_steps == 4
    with pytest.raises(InputError, match="cannot be kept"):
        keep_batch_size(on(2, **keys), 1)
