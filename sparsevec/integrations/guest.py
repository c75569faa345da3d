"""Whether another package is installed, and of a version that fits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version

from sparsevec.errors import ClientMissing

__all__ = ["guest"]


@contextmanager
def guest(package: str, extra: str) -> Iterator[None]:
    """Around the imports of `package`: raises ClientMissing where it is not installed, is of a version that the extra
    `extra` does not name, or lacks a name that is imported; the message says which version fits."""
    wanted = _wanted(package, extra)
    try:
        found = version(package)
    except PackageNotFoundError as error:
        raise ClientMissing.extra(package, extra) from error
    if _release(found) < _release(wanted.partition(">=")[2]):
        raise _unfit(package, found, wanted, extra)
    try:
        yield
    except ImportError as error:
        raise _unfit(package, found, wanted, extra, f": {error}") from error


def _wanted(package: str, extra: str) -> str:
    """`langchain-core>=1`, as the extra says it."""
    try:
        lines = requires("sparsevec") or []
    except PackageNotFoundError:  # run from its files, not installed
        return package
    mine = [line.partition(";")[0].strip() for line in lines if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    return next((line for line in mine if re.split(r"[\[<>=!~ ]", line)[0] == package), package)


def _release(text: str) -> tuple[int, ...]:
    """`1.10.2rc1` is (1, 10, 2), `1.0` is (1,); nothing is ()."""
    numbers = [int(part) for part in re.match(r"[0-9.]*", text).group().split(".") if part]  # type: ignore[union-attr]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _unfit(package: str, found: str, wanted: str, extra: str, why: str = "") -> ClientMissing:
    return ClientMissing(
        f"{package} {found} is installed, which does not fit{why}; expected {wanted}: "
        f"pip install --upgrade 'sparsevec[{extra}]'"
    )
