"""The citation file and the page on citing name the same papers and authors."""

import re
from pathlib import Path

import yaml


ROOT = Path(__file__).parents[2]


def test_the_references_of_the_citation_file_are_those_of_the_page():
    page = (ROOT / "docs/reference/citing.md").read_text(encoding="utf-8")
    entries = re.findall(r"title=\{(.+)\},\n  author=\{(.+)\},\n  booktitle=\{(.+)\},\n  year=\{(\d+)\}", page)
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    assert len(entries) == 2
    assert entries == [
        (
            reference["title"],
            " and ".join(f"{author['family-names']}, {author['given-names']}" for author in reference["authors"]),
            reference["collection-title"],
            str(reference["year"]),
        )
        for reference in references
    ]
