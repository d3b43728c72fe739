"""An extension of griffe, which reads the docstrings for the API pages."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Read the section `Example:` of a docstring like `Examples:`, so that its code is shown as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section in the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
