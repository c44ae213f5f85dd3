"""Our docstrings say `Example:`; the reference shows what follows as code."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Rename the section as the reader of docstrings knows it."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for everything that may have a docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
