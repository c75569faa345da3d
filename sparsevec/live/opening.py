"""What every call of this wing begins with: the adapter of a url, and arguments that make sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import check_adapter
from sparsevec.contract.connect import connect
from sparsevec.encoder import Budget
from sparsevec.errors import InvalidInput

__all__ = ["USUAL", "check_rate", "check_sample", "check_urls", "opened", "place_of"]

USUAL = Budget(nnz=32, flops=0.65)
"""of an encoder that is learned for a collection, where the caller says nothing"""


@contextmanager
def opened(where: str | Adapter, credentials: Mapping[str, Any]) -> Iterator[Adapter]:
    """The adapter of a url, closed at the end; or the caller's, which stays open."""
    if isinstance(where, str):
        with connect(where, **credentials) as adapter:
            yield adapter
        return
    if credentials:
        raise InvalidInput(f"credentials {sorted(credentials)} go with a url; an adapter has its own")
    check_adapter(where)
    yield where


def check_rate(rate: object) -> None:
    """Raises InvalidInput unless it is a number above 0, or None."""
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float)) or not rate > 0):
        raise InvalidInput(f"rate must be a positive number of documents a second, or None, found {rate!r:.80}")


def check_sample(sample: object) -> None:
    """Raises InvalidInput unless it is an int of at least 16: fewer rows tell nothing."""
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 16:
        raise InvalidInput(f"sample must be at least 16 rows, found {sample!r:.80}")


def check_urls(*urls: object) -> None:
    """Raises InvalidInput unless each is text: what is named here is connected to more than once."""
    for url in urls:
        if not isinstance(url, str):
            raise InvalidInput(f"expected a url such as 'elasticsearch://localhost:9200/products', found {url!r:.80}")


def place_of(adapter: Adapter) -> str:
    """The collection in messages, and in notes."""
    return repr(adapter).removesuffix(">").partition(" ")[2].removesuffix(" (closed)")
