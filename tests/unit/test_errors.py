"""What others wrote is shown, and does nothing to the screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202edef", r"abc\u202edef"),
        ("one\ntwo\r\t", r"one\ntwo\r\t"),
        ("\ud800", r"\ud800"),
        ("a\u2028b\ufeff\u200b", r"a\u2028b\ufeff\u200b"),
    ],
)
def test_what_would_move_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["", "Grüße, 世界", "naïve C:\\new", "a\u00a0b", "👩\u200d💻", "می\u200cخواهم"])
def test_writing_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_is_long_is_cut_with_an_ellipsis() -> None:
    assert printable("x" * 10, limit=5) == "xxxx…"


@given(st.text(st.characters()), st.integers(1, 50))
def test_nothing_that_is_shown_is_a_control_character(text: str, limit: int) -> None:
    printable(text, limit).encode("utf-8")
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in printable(text, limit))
