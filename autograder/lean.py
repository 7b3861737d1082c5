"""Imports nbformat, and lets others be imported, without what they look for on the way and nothing here asks for. It changes nothing else.

Imported before nbformat by whatever of the package imports that first. What is kept out is out only while the import lasts: another library
that asks for it later gets it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Within, these modules look as if they were not installed. One that is imported already stays as it is."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# jsonschema, which nbformat imports, would make a parser for addresses out of it, and that takes longer than all else of the grader but torch
with without("rfc3987_syntax"):
    import nbformat  # noqa: F401
