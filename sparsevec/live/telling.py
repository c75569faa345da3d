"""`Telling`: how far a run is and what it found, to whoever wants to know: the log, the status file, metrics, a caller.

Each stage ends in one line of the log `sparsevec.live`, a word and a JSON object, which is also the record's attribute
`sparsevec`. No url with credentials, and no payload, is in any of it: places are named as messages name them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

from pydantic import BaseModel

from sparsevec.errors import SparsevecError, printable
from sparsevec.live.folder import Folder
from sparsevec.live.metrics import count_look
from sparsevec.live.reports import Look
from sparsevec.progress import Listener, Progress

__all__ = ["BEFORE", "Telling"]

_log = logging.getLogger("sparsevec.live")

BEFORE: Final = "before"
"""the stage of a progress event that only says, in its text, what is about to be done at what cost"""


class Telling:
    """Of one run at one place, for as long as its `with` lasts. `total`: documents that a whole look will see, where
    that is known."""

    def __init__(self, folder: Folder, place: str, listener: Listener | None = None) -> None:
        self._folder, self._place, self._listener = folder, place, listener
        self._began = time.monotonic()
        self.stage = "begins"
        self.total: int | None = None

    @contextmanager
    def doing(self, stage: str, *, tells: bool = False) -> Iterator[dict[str, Any]]:
        """One stage: what is put into the dict is told at its end. `tells`: it tells the listener of itself."""
        self.stage, began, figures = stage, time.monotonic(), dict[str, Any]()
        self._status({}, at_once=True)
        if self._listener is not None and not tells:
            self._listener(Progress(stage, 0, 0, 0.0, began - self._began, stage))
        yield figures
        self._line(stage, {**figures, "seconds": round(time.monotonic() - began, 3)})

    def before(self, text: str, **figures: float) -> None:
        """What is about to be done, and what it costs."""
        self._line(BEFORE, {"text": text, **figures})
        if self._listener is not None:
            self._listener(Progress(BEFORE, 0, 0, 0.0, time.monotonic() - self._began, text, figures))

    def look(self, stage: str, look: Look) -> None:
        """A look is at its end."""
        self._line(stage, look.model_dump(mode="json", exclude={"failures"}))
        count_look(self._place, stage, look)

    def __call__(self, looked: int, written: int) -> None:
        """So many documents of this stage were looked at, and so many are to be written."""
        seconds = time.monotonic() - self._began
        self._status({"looked": looked, "total": self.total, "written": written})
        if self._listener is not None:
            fraction = min(1.0, looked / self.total) if self.total else 0.0
            text = f"{looked:,} documents looked at, {written:,} of them for a write"
            figures = {"looked": looked, "written": written}
            self._listener(Progress(self.stage, looked, self.total or 0, fraction, seconds, text, figures))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Whatever stopped the run stands in the status."""
        if error is not None:
            said = {"stopped": f"{type(error).__name__}: {printable(error, 500)}"}
            self._line(self.stage, said)
            with suppress(SparsevecError):  # the first error is the one to hear of
                self._status(said, at_once=True)

    def end(self, stage: str, report: BaseModel) -> None:
        """The run is at its end: the status holds the whole report."""
        self.stage = stage
        self._status({"report": report.model_dump(mode="json")}, at_once=True)
        self._line(stage, {"seconds": round(time.monotonic() - self._began, 3)})

    def _status(self, figures: dict[str, Any], *, at_once: bool = False) -> None:
        self._folder.tell({"place": self._place, "stage": self.stage, **figures}, at_once=at_once)

    def _line(self, stage: str, figures: dict[str, Any]) -> None:
        said = {"stage": stage, "place": self._place, **figures}
        _log.info("live %s", json.dumps(said), extra={"sparsevec": said})
