"""Every error that leaves sparsevec.

    SparsevecError
    ├── InvalidVectors (ValueError)          the input is not a batch of vectors as `vectors` defines it
    ├── InvalidInput (ValueError)            another argument is wrong: ids, k, payloads, paths, budgets
    │   ├── NotFitted                        an encoder that has learned nothing yet
    │   └── PlaceForgotten                   the backend does not know that place of a scan or ranking any more
    ├── ModelBroken                          a model or checkpoint that is not ours, or not a whole one
    ├── JournalMismatch                      a journal that belongs to another run, or is not a journal
    ├── CheckpointMismatch                   a checkpoint of another training: other settings, model or data
    ├── StorageFailed (OSError)              the disk is full, or refuses
    ├── NotExact            .report          a backend answered something that exact arithmetic does not say
    ├── TrainingCollapsed   .diagnosis       training stopped early: the codes were degenerate
    ├── EmbedderFailed                       what embeds texts raised an error of its own, which is the cause
    └── AdapterError
        ├── AdapterNotFound (LookupError)    no adapter answers to that url
        ├── ClientMissing (ImportError)      the client library is not installed; says what to install
        ├── BackendDown (ConnectionError)    not reachable, overloaded, or the answer was lost: the only retryable one
        │     .retry_after                   seconds the backend asked us to wait, or None
        ├── BackendUnsupported               version, licence, mapping or privilege: says what is needed
        ├── AdapterClosed                    used after `close`, or in a forked child
        ├── CollectionError                  the collection is not there, is there already, or is not ours
        ├── WrongSpace (ValueError)          vectors or queries of another encoder than the collection's
        ├── OutOfLimits (ValueError)         this backend cannot hold or answer that: says which limit
        │     .splittable                    True when fewer documents a request would fit
        └── WriteFailed         .report      some documents were refused or never arrived

Each message says what was found, what was expected and what to do. A client's own exception stays as `__cause__`. Text
that others wrote (ids, payloads, reasons of a server, file names) enters a message through `printable`, or as a repr.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AdapterClosed",
    "AdapterError",
    "AdapterNotFound",
    "BackendDown",
    "BackendUnsupported",
    "CheckpointMismatch",
    "ClientMissing",
    "CollectionError",
    "EmbedderFailed",
    "InvalidInput",
    "InvalidVectors",
    "JournalMismatch",
    "ModelBroken",
    "NotExact",
    "NotFitted",
    "OutOfLimits",
    "PlaceForgotten",
    "SparsevecError",
    "StorageFailed",
    "TrainingCollapsed",
    "WriteFailed",
    "WrongSpace",
    "described",
    "printable",
]


class SparsevecError(Exception):
    """Root of the tree. An error that stops `ingest` carries the `report` of what was settled before."""

    report: Any = None


class InvalidVectors(SparsevecError, ValueError):
    """The input is not a batch of vectors as `sparsevec.vectors` defines it."""


class InvalidInput(SparsevecError, ValueError):
    """An argument other than the vectors is wrong."""


class NotFitted(InvalidInput):
    """An encoder that has learned nothing yet; fit it, or load a saved one."""


class PlaceForgotten(InvalidInput):
    """The backend does not know that place of a scan or a ranking any more, or never did; begin again."""


class ModelBroken(SparsevecError):
    """A model folder, a checkpoint or a file of weights that is not one of ours, or not a whole one."""


class JournalMismatch(SparsevecError):
    """A journal that belongs to another run, or is not a journal."""


class CheckpointMismatch(SparsevecError):
    """A checkpoint of another training: other settings, another model, or other data."""


class StorageFailed(SparsevecError, OSError):
    """The disk is full, or refuses; what was acknowledged before is still there."""


class NotExact(SparsevecError):
    """A backend answered something that exact arithmetic does not say; `report` has each offence."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        """By pickle: from a worker to whoever asked it."""
        return type(self), (str(self), self.report)


class TrainingCollapsed(SparsevecError):
    """Training stopped early because the codes were degenerate; `diagnosis` says in which way, with the figures."""

    def __init__(self, diagnosis: str) -> None:
        super().__init__(diagnosis)
        self.diagnosis = diagnosis


class EmbedderFailed(SparsevecError):
    """What embeds texts raised an error of its own, which is the cause; the message names the texts."""


class AdapterError(SparsevecError):
    """Anything a backend, or the way to it, makes impossible."""


class AdapterClosed(AdapterError):
    """The adapter was closed, or belongs to the process that this one was forked from; connect again."""


class WrongSpace(AdapterError, ValueError):
    """Vectors or queries of another space than the collection's (C18); the message has both fingerprints."""


class AdapterNotFound(AdapterError, LookupError):
    """No adapter answers to that url."""


class ClientMissing(AdapterError, ImportError):
    """The client library is not installed."""

    @classmethod
    def extra(cls, package: str, extra: str) -> ClientMissing:
        """The error for a missing `package` that the extra `extra` would have brought."""
        return cls(f"{package} is not installed; install it with: pip install 'sparsevec[{extra}]'")


class BackendDown(AdapterError, ConnectionError):
    """Not reachable, overloaded, or the answer was lost: whether a write took effect is unknown, so send it again."""

    def __init__(self, message: str, *, retry_after: float | None = None, busy: bool = False) -> None:
        """`busy`: it answered, and has too much to do at present; `retry_after`: so many seconds, as it said."""
        super().__init__(message)
        self.retry_after, self.busy = retry_after, busy or retry_after is not None


class BackendUnsupported(AdapterError):
    """The backend's version, licence, mapping or privileges do not allow it; the message says what is needed."""


class CollectionError(AdapterError):
    """The collection is not there, is there already, or is not what was expected."""


class OutOfLimits(AdapterError, ValueError):
    """This backend cannot hold or answer that; `splittable` when fewer documents in one request would fit."""

    def __init__(self, message: str, *, splittable: bool = False) -> None:
        super().__init__(message)
        self.splittable = splittable


class WriteFailed(AdapterError):
    """Some documents were refused or never arrived; `report` counts them and says where they are."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        """By pickle: from a worker to whoever asked it."""
        return type(self), (str(self), self.report)


def described(value: object) -> str:
    """What was found, for a message: 80 characters of its repr. Python writes no int of thousands of digits."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        return f"{type(value).__name__} too long to be written"


def printable(text: object, limit: int = 2000) -> str:
    r"""`text` as a terminal, a log or a page may show it: at most `limit` characters, none of which does anything.

    Control characters (line breaks, ESC, C1), what turns the direction of writing, what is invisible and lone
    surrogates stand as escapes: `\x1b`, `\u202e`. Letters of every script, blanks and emoji stay.
    """
    whole = str(text)
    short = whole if len(whole) <= limit else f"{whole[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"
    return short if short.isprintable() else "".join(map(_shown, short))


def _shown(letter: str) -> str:
    return letter if letter.isprintable() or letter in _HARMLESS else letter.encode("unicode_escape").decode("ascii")


_HARMLESS = "\u00a0\u2009\u202f\u3000\u200c\u200d"  # blanks, and the joiners of Persian, Hindi and emoji
