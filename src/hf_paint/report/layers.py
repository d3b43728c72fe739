"""How far each layer moved, as the run measured it at its end."""

import math
from collections.abc import Iterator

from hf_paint.documents.reading import read_json
from hf_paint.report.contents import Layer
from hf_paint.report.reading import Recorded
from hf_paint.results.runs import changes_of
from hf_paint.weights.changes import WeightChanges


def layers_of(recorded: Recorded) -> list[Layer]:
    """Return the changes of every layer of every fine-tuned model; empty if they are unknown.

    A run of an earlier version did not measure them. They are then measured now, if all weights are on this disk.
    """
    stored = read_json(recorded.files.changes)
    found = [WeightChanges.from_dict(stored)] if stored is not None else changes_of([recorded.run])[0].values()
    return [layer for changes in found for layer in _layers(changes)]


def _layers(changes: WeightChanges) -> Iterator[Layer]:
    for model in changes.models:
        for name in changes.products:
            relative, cosine = changes.relative_norm(model, name), changes.cosine_to_base(model, name)
            yield Layer(
                model=model,
                name=name,
                norm=changes.norm(model, name),
                relative=None if math.isnan(relative) else relative,
                cosine=None if math.isnan(cosine) else cosine,
            )
