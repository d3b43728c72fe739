"""Reading the alpha curve and the branches of a published repository from its card."""

from pathlib import Path

from huggingface_hub import HfApi

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError, JobError
from hf_paint.files import exists, expand
from hf_paint.hub.errors import hub_errors
from hf_paint.models.card_file import facts_of, read_card_metadata
from hf_paint.repositories import fetch
from hf_paint.results.alphas import alpha_from_json, format_alpha, variant_name
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.curve_metadata import curve_from_metadata
from hf_paint.results.records import ROLES
from hf_paint.results.tables import percent


def load_curve(repo: str | Path, *, revision: str = "main") -> AlphaCurve:
    """Read the alpha curve of a patched model from the metadata of its card.

    Args:
        repo: Hub repository id or folder.
        revision: Branch, tag or commit on the Hub.

    Returns:
        The curve, without per-example data.

    Raises:
        InputError: If the model does not exist, or its card contains no curve.

    Example:
        >>> load_curve("me/clip-mnist").select("supported_within", tolerance=0.01)  # doctest: +SKIP
        0.4
    """
    return curve_from_metadata(card_metadata(repo, revision=revision).get("curve", {}))


def card_metadata(repo: str | Path, *, revision: str = "main") -> Json:
    """Return the hf_paint metadata in the card of a patched model.

    Raises:
        InputError: If the model does not exist, or was not published by hf_paint.
    """
    card = fetch(repo, "README.md", revision, failure=JobError)
    if card is None:
        raise InputError(f"'{repo}' has no README.md at revision '{revision}'.")
    metadata = facts_of(read_card_metadata(card))
    if not metadata:
        raise InputError(f"The card of '{repo}' at revision '{revision}' was not written by hf_paint.")
    return metadata


def variant_rows(repo: str, *, split: str = "test") -> list[list[str]]:
    """Return a table of the branches of a repository, header first, one row per alpha.

    Raises:
        InputError: If this is a folder, or the repository was not published by hf_paint.
    """
    if exists(expand(repo)):
        raise InputError(
            f"'{repo}' is a folder, but the branches of a model are on the Hub. Pass its repository id (owner/name)."
        )
    metadata = card_metadata(repo)
    curve, selected = curve_from_metadata(metadata.get("curve", {})), metadata.get("selected_alpha")
    chosen = None if selected is None else alpha_from_json(selected)
    with hub_errors(f"Reading the branches of {repo} failed"):
        names = {branch.name for branch in HfApi().list_repo_refs(repo).branches}
    columns = [(role, task) for role in ROLES for task in curve.tasks.get(role, [])]
    rows = [["revision", "alpha", *(f"{task} ({role})" for role, task in columns)]]
    for alpha in curve.alphas:
        branch = variant_name(alpha)
        branches = [branch] if branch in names else []
        branches += ["main"] if alpha == chosen else []
        results = [curve.get(alpha, *column, split) for column in columns]
        cells = [percent(result.accuracy) if result else "" for result in results]
        rows.append([", ".join(branches) or "-", format_alpha(alpha), *cells])
    return rows
