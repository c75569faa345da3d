"""Options that are JSON."""

from __future__ import annotations

import json
from typing import Any

from sparsevec.contract.filters import Where
from sparsevec.errors import InvalidInput

__all__ = ["read_vector", "read_where"]


def read_where(text: str | None) -> Where | None:
    """A filter as JSON, such as {"brand": "acme", "price": {"lt": 100}}."""
    return None if text is None else _object(text, "--where")


def read_vector(text: str) -> dict[int, float]:
    """A sparse vector as JSON, such as {"3": 0.5, "17": 1.2}."""
    try:
        return {int(index): weight for index, weight in _object(text, "--vector").items()}
    except ValueError as error:
        raise InvalidInput(f"--vector must map whole numbers to weights: {error}") from error


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{option} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{option} must be a JSON object, found {text:.80}")
    return found
