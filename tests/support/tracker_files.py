"""What trackers have written to disk, read with their own readers."""

import json
import struct
from pathlib import Path


def tensorboard_series(folder):
    """Return tag -> [(step, value), ...] of all event files in a folder, and the tags of texts and of images."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()
    series = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]}
    return series, set(tags["tensors"]), set(tags["images"])


def wandb_records(folder):
    """Return the rows of the history, metric -> its step metric, and the (id, name) of each offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows, metrics, ids = [], {}, []
    for path in sorted(Path(folder).glob("wandb/offline-run-*/*.wandb")):
        for data in _logged(path.read_bytes()):
            record = Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                ids.append((record.run.run_id, record.run.display_name))
            elif kind == "metric":
                metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            elif kind == "history":
                items = record.history.item
                rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows, metrics, ids


def _logged(content):
    """Yield the records of a file in LevelDB's log format, after the header of W&B.

    A block has 32768 bytes. A part of a record has a checksum (4 bytes), a length (2) and a type (1): whole, first,
    middle or last.
    """
    position, record = 7, b""
    while position + 7 <= len(content):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield record
            record = b""
