"""A copy and a switch while an application writes through the alias all the time: nothing is lost or comes back."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest

import sparsevec as sv
from tests.live.conftest import N
from tests.live.shops import dense_rows
from tests.live.test_copying import Aliased, aliased
from tests.live.test_retrofit import wrong

__all__ = ["aliased"]  # the fixture

pytestmark = pytest.mark.slow


class Application(threading.Thread):
    """Writes documents whole, makes new ones and deletes old ones; `truth` is what must be there."""

    def __init__(self, users: Any, truth: dict[int, Any]) -> None:
        super().__init__(daemon=True)
        self.users, self.truth, self.edits = users, truth, 0
        self.error: Exception | None = None
        self.stopped, self.past = threading.Event(), threading.Event()
        self._rng, self._rows = random.Random(0), dense_rows(1000, seed=5)

    def run(self) -> None:
        try:
            self._go_on()
        except Exception as error:
            self.error = error
            self.past.set()  # nobody waits for it any more

    def _go_on(self) -> None:
        while not self.stopped.is_set():
            number, kind = self._rng.randrange(N), self._rng.randrange(4)
            document = {"title": f"edit {self.edits}", "emb": self._rows[self.edits % 1000].tolist()}
            if kind == 0:
                self.truth[N + self.edits] = document
                self.users.put({N + self.edits: document})
            elif kind == 1 and number in self.truth:
                del self.truth[number]
                self.users.remove(number)
            else:
                self.truth[number] = document
                self.users.put({number: document})
            self.edits += 1
            if self.edits >= 40:
                self.past.set()


def test_an_application_that_goes_on_writing_loses_nothing(aliased: Aliased, model: Path) -> None:
    users = aliased.through(aliased.alias)
    application = Application(users, users.documents())
    application.start()
    application.past.wait()
    sv.copy_beside(aliased.url, model=model, dense_field="emb", check=False)
    report = sv.switch_copy(aliased.url, model=model)
    application.past.clear()
    application.past.wait()  # writes to the new one, too
    application.stopped.set()
    application.join()
    assert application.error is None, application.error
    sv.catch_up(aliased.url, model=model)
    there = users.documents()
    print(f"{application.edits} edits, {report}")
    assert there.keys() == application.truth.keys()
    titles = {number: document["title"] for number, document in there.items()}
    assert titles == {number: document["title"] for number, document in application.truth.items()}
    assert wrong(users, model) == {}
    verified = sv.retrofit(aliased.url, model=model, dense_field="emb")
    assert (verified.settled, verified.complete, verified.verified is not None) == (True, True, True)
