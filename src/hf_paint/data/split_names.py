"""Split expressions like `train[:80%]+test`, and the rows that they read."""

from collections.abc import Collection, Mapping

from datasets import ReadInstruction


Part = tuple[str, int, int]
"""Name of a split, the first of its rows, and the row after the last."""


def split_names(source: str, known: Collection[str] = ()) -> list[str]:
    """Return the names of the splits in an expression; a known name is returned as it is.

    Example:
        >>> split_names("train[:80%]+test"), split_names("a+b", ["a+b"])
        (['train', 'test'], ['a+b'])
    """
    if source in known:
        return [source]
    try:
        return [part.partition("[")[0] for part in ReadInstruction.from_spec(source).to_spec().split("+")]
    except ValueError:  # not an expression, so perhaps the name of a folder
        return [source]


def read_parts(source: str, lengths: Mapping[str, int]) -> list[Part]:
    """Return the parts that a split or an expression reads, given the number of rows in each split.

    Raises:
        ValueError: If it cannot be parsed, or names an unknown split.

    Example:
        >>> read_parts("train[80%:]+test", {"train": 10, "test": 3})
        [('train', 8, 10), ('test', 0, 3)]
    """
    if source in lengths:
        return [(source, 0, lengths[source])]
    parts = ReadInstruction.from_spec(source).to_absolute(dict(lengths))
    return [(part.splitname, part.from_, part.to) for part in parts]


def suggest_splits(names: Collection[str], *, drawn: bool = True) -> str:
    """Return what to write as `splits` for data with these splits.

    Args:
        names: Names of the splits.
        drawn: Whether validation and test may be drawn from train if there is none.

    Example:
        >>> suggest_splits(["train"])
        'write splits: {train: train, validation: stratified, test: stratified}, drawn from train'
        >>> suggest_splits(["test"])
        'write splits: {train: null, validation: null, test: test}'
    """
    if not {"train", "validation", "test"}.intersection(names):
        return "correct `splits`"
    other = "stratified" if drawn and "train" in names else "null"
    values = {split: split if split in names else other for split in ("train", "validation", "test")}
    text = ", ".join(f"{split}: {value}" for split, value in values.items())
    ending = ", drawn from train" if "stratified" in values.values() else ""
    return f"write splits: {{{text}}}{ending}"
