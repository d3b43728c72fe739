"""The YAML that is read: plain data within limits, with names as they are written."""

import yaml

from hf_paint.documents.limits import MOST_LEVELS, MOST_NODES, TOO_DEEP, check_digits, check_text
from hf_paint.errors import one_line


_PREFIX = "tag:yaml.org,2002:"
_KINDS = {_PREFIX + kind for kind in ("bool", "float", "int", "map", "null", "seq", "str")}
_TEXT, _NULL, _MERGE = (_PREFIX + kind for kind in ("str", "null", "merge"))
_FLOAT, _INTEGER = (_PREFIX + kind for kind in ("float", "int"))
FAULTS = (yaml.YAMLError, ArithmeticError, LookupError, TypeError, ValueError)
"""What PyYAML raises for text that is not YAML, e.g. a `KeyError` for `!!bool maybe`."""


def explain(error: Exception) -> str:
    """Return on one line what is wrong with a text, and where, without the words of the parser.

    Example:
        >>> try:
        ...     yaml.safe_load("{dataset: digits")
        ... except yaml.YAMLError as error:
        ...     explain(error)
        "line 1, column 17: expected ',' or '}', but the text ends. Check brackets, braces, quotes and indents"
    """
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None or not error.problem:
        return one_line(error)
    problem = error.problem.replace("got '<stream end>'", "the text ends").replace("found '<stream end>'", "it ends")
    mark = error.problem_mark
    is_slip = isinstance(error, (yaml.parser.ParserError, yaml.scanner.ScannerError))
    advice = ". Check brackets, braces, quotes and indents" if is_slip else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{advice}"


class PlainLoader(yaml.SafeLoader):
    """Loader for plain data, in which every plain scalar below a text key is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _KINDS or tag == _MERGE]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: construct for tag, construct in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag in _KINDS
    }

    def __init__(self, text: str, text_keys: frozenset[str]) -> None:
        super().__init__(text)
        self._text_keys, self._level, self._nodes = text_keys, 0, 0

    def get_single_node(self) -> yaml.Node | None:
        """Return the tree of the document, in which names are text."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count(node, {})
            _find_texts(node, self._text_keys)
        return node

    def compose_node(self, parent: yaml.Node | None, index: int | yaml.Node | None) -> yaml.Node | None:
        """Return the tree of a part of the document, if it is within the limits."""
        self._level, self._nodes = self._level + 1, self._nodes + 1
        if self._level > MOST_LEVELS:
            raise ValueError(TOO_DEEP)
        if self._nodes > MOST_NODES:
            raise ValueError(f"it has more than {MOST_NODES:,} values")
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[arg-type]
        if isinstance(node, yaml.ScalarNode):
            check_text(node.value)
        self._level -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Return the text of a scalar; of a whole number or one to the base 60, only if it is short."""
        text: str = super().construct_scalar(node)
        if node.tag == _INTEGER or (node.tag == _FLOAT and ":" in text):
            check_digits(text)
        return text


def _count(node: yaml.Node, known: dict[yaml.Node, tuple[int, int]]) -> tuple[int, int]:
    """Return the number of values and levels of a node, with all that its aliases stand for, and check them."""
    if isinstance(node, yaml.ScalarNode):
        return 1, 1
    if node not in known:
        known[node] = MOST_NODES + 1, 0  # while its parts are counted: it is too large if it contains itself
        parts = [part for pair in node.value for part in (pair if isinstance(node, yaml.MappingNode) else [pair])]
        counts = [_count(part, known) for part in parts]
        known[node] = 1 + sum(nodes for nodes, _ in counts), 1 + max((levels for _, levels in counts), default=0)
        if known[node][0] > MOST_NODES or known[node][1] > MOST_LEVELS:
            raise ValueError(f"its aliases stand for more than {MOST_NODES:,} values or {MOST_LEVELS} levels")
    return known[node]


def _find_texts(node: yaml.Node, text_keys: frozenset[str]) -> None:
    """Mark the keys of a document, and the scalars below its text keys, as text."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _find_texts(item, text_keys)
    elif isinstance(node, yaml.MappingNode):
        _mark_keys(node)
        for key, value in node.value:
            if key.value in text_keys:
                _mark(value, optional=True)
            else:
                _find_texts(value, frozenset() if key.value == "where" else text_keys)  # its keys are any columns


def _mark_keys(node: yaml.MappingNode) -> None:
    """Mark the keys of a mapping as text, and refuse one that occurs twice, of which PyYAML would keep the last."""
    known: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key is not a text", problem_mark=key.start_mark)
        if key.tag != _MERGE:  # `<<: *base` inserts the keys of another mapping
            if key.value in known:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' occurs twice", problem_mark=key.start_mark)
            known.add(key.value)
            key.tag = _TEXT


def _mark(node: yaml.Node, *, optional: bool = False) -> None:
    """Mark a value and all below it as text, except empty scalars and, if `optional`, other spellings of null."""
    if isinstance(node, yaml.ScalarNode):
        is_none = not node.value or (optional and node.tag == _NULL)
        if node.style is None and not is_none:
            node.tag = _TEXT
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _mark(item)
    elif isinstance(node, yaml.MappingNode):
        _mark_keys(node)
        for _, value in node.value:
            _mark(value, optional=True)
