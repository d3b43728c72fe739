"""JSON and YAML, read within bounds, and checked for the shape that the reader expects."""

from hf_paint.documents.reading import parse_json, parse_yaml, read_json, read_recipe, read_yaml


__all__ = ["parse_json", "parse_yaml", "read_json", "read_recipe", "read_yaml"]
