"""The Hub's checks of a model card's metadata before it accepts a commit with a README."""

import re

import yaml


REPO_ID = r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?"
RELATIONS = "adapter finetune merge quantized"
LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0
etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 h-research
intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit
mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown
unlicense wtfpl zlib
"""
PIPELINE_TAGS = """
any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition
depth-estimation document-question-answering feature-extraction fill-mask graph-ml image-classification
image-feature-extraction image-segmentation image-text-to-text image-to-3d image-to-image image-to-text
image-to-video keypoint-detection mask-generation multiple-choice object-detection other question-answering
reinforcement-learning robotics sentence-similarity summarization table-question-answering
tabular-classification tabular-regression text-classification text-generation text-ranking text-retrieval
text-to-3d text-to-audio text-to-image text-to-speech text-to-video time-series-forecasting
token-classification translation unconditional-image-generation video-classification video-text-to-text
video-to-video visual-document-retrieval visual-question-answering voice-activity-detection
zero-shot-classification zero-shot-image-classification zero-shot-object-detection
"""


def card_metadata(content):
    """The YAML block at the start of a README, or None if there is none."""
    block = re.match(r"---[ \t]*\r?\n(.*?)^---", content, re.DOTALL | re.MULTILINE)
    return yaml.safe_load(block[1]) if block else None


def metadata_errors(content):
    """One message per fault, in the Hub's wording where it is known."""
    try:
        data = card_metadata(content) or {}
    except yaml.YAMLError as error:
        return [f"YAML: {error}"]
    if not isinstance(data, dict):
        return ["The metadata must be a mapping"]
    return [*field_errors(data), *model_index_errors(data.get("model-index", []))]


def field_errors(data):
    for key, allowed in (
        ("license", LICENSES),
        ("pipeline_tag", PIPELINE_TAGS),
        ("base_model_relation", RELATIONS),
        ("library_name", None),
    ):
        value = data.get(key)
        if value is not None and not isinstance(value, str):
            yield f'"{key}" must be a string'
        elif value is not None and allowed and value not in allowed.split():
            yield f'"{key}" must be one of [{", ".join(allowed.split())}]'
    for key in ("tags", "datasets", "metrics"):
        value = data.get(key)
        if value is not None and not isinstance(value, list):
            yield f'"{key}" must be an array'
        elif not all(isinstance(item, str) for item in value or []):
            yield f'"{key}" must contain strings only'
    for key, plural in (("base_model", "models"), ("datasets", "datasets")):
        for value in as_list(data.get(key)):
            if not re.fullmatch(REPO_ID, str(value)):
                yield f'"{key}" with value "{value}" is not valid. Use an id from https://hf.co/{plural}.'


def model_index_errors(index):
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for i, model in enumerate(index):
        where = f"model-index[{i}]"
        yield from missing(model, where, name=str, results=list)
        for j, result in enumerate(as_list(get(model, "results"))):
            place = f"{where}.results[{j}]"
            yield from missing(result, place, task=dict, dataset=dict, metrics=list)
            yield from missing(get(result, "task"), f"{place}.task", type=str)
            yield from missing(get(result, "dataset"), f"{place}.dataset", type=str, name=str)
            for k, metric in enumerate(as_list(get(result, "metrics"))):
                yield from missing(metric, f"{place}.metrics[{k}]", type=str, value=object)


def missing(mapping, where, **fields):
    for name, expected in fields.items():
        value = get(mapping, name)
        if value is None:
            yield f'"{where}.{name}" is required'
        elif not isinstance(value, expected):
            yield f'"{where}.{name}" must be a {expected.__name__}'


def get(mapping, name):
    return mapping.get(name) if isinstance(mapping, dict) else None


def as_list(value):
    return value if isinstance(value, list) else [] if value is None else [value]
