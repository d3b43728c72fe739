"""Adapters read with plain peft."""

import json
from copy import deepcopy
from pathlib import Path

from peft import PeftModel


def loaded(model, folder):
    """Return the CLIP weights after plain peft loads and merges an adapter."""
    return PeftModel.from_pretrained(deepcopy(model), str(folder)).merge_and_unload().state_dict()


def config_of(folder):
    return json.loads((Path(folder) / "adapter_config.json").read_text())
