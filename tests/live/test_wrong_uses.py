"""What people do wrong with a cluster that serves, and what they are told before anything is changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sparsevec as sv
from sparsevec.errors import CollectionError, InvalidInput, ModelBroken, SparsevecError, StorageFailed

live: Any = sv  # wrong on purpose
URL = "reference:"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda model: live.retrofit(URL, model=model, deadline="soon"), "deadline must be a number of seconds"),
        (lambda model: live.retrofit(URL, model=model, seed=-1), "seed must be a whole number of at least 0, found -1"),
        (lambda model: live.retrofit(URL, model=model, on_progress=5), "on_progress must be a function"),
        (lambda model: live.retrofit_each(URL, model=model, seed="x"), "seed must be a whole number of at least 0"),
        (lambda model: live.retrofit_each([], model=model), "expected a url, or several, found none"),
        (lambda model: live.retrofit_each(None, model=model), "expected a url such as .*found None"),
        (lambda model: live.catch_up_each([5], model=model), "expected a url such as .*found 5"),
        (lambda model: live.undo_each([None], model=model), "expected a url such as .*found None"),
        (lambda model: live.catch_up(URL, model=model, deadline=None), "deadline must be a number of seconds"),
        (lambda model: live.catch_up(URL, model=model, on_progress=5), "on_progress must be a function"),
        (lambda model: live.follow(URL, model=model, every="minute"), "every must be a number of seconds"),
        (lambda model: live.undo_retrofit(URL, model=model, deadline=-1), "deadline must be a number of seconds"),
        (lambda model: live.migrate(None, model=model, to=model), "expected a url such as .*found None"),
        (lambda model: live.migrate(URL, model=model, to=model, into=5), "expected a url such as .*found 5"),
        (lambda model: live.copy_beside(None, model=model), "expected a url such as .*found None"),
        (lambda model: live.copy_beside(URL, model=model, deadline="x"), "deadline must be a number of seconds"),
        (lambda model: live.switch_copy(URL, model=model, deadline="x"), "deadline must be a number of seconds"),
    ],
)
def test_it_is_refused_in_words(wrong: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=said):
        wrong(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "error"), [("a file", ModelBroken), ("x" * 5000, StorageFailed)])
def test_what_is_no_folder_of_an_encoder_is_told_by_who_serves(
    name: str, error: type[SparsevecError], tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(error):
        sv.Serving(URL, model=tmp_path / name)


def test_there_is_nothing_to_catch_up_with_where_neither_field_is(tmp_path: Path) -> None:
    first, second = f"reference:{tmp_path / 'a'}", f"reference:{tmp_path / 'b'}"
    with pytest.raises(CollectionError, match=r"a and reference:.*b are not there, so there is nothing to catch up"):
        sv.catch_up_both(first, model=tmp_path / "model", to=tmp_path / "model-2", into=second)


def test_a_folder_with_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="File name too long"):
        sv.retrofit(URL, model=tmp_path / ("x" * 5000))
