"""Whole or not there: in which order things reach the disk, and what is left when they do not."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparsevec import storage
from sparsevec.errors import StorageFailed
from sparsevec.storage import append_synced, storage_errors, whole_file, whole_folder


def filled(content: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "a").write_text(content)
        (folder / "inner" / "b").write_text(content)

    return fill


def read(folder: Path) -> list[str]:
    return [(folder / "a").read_text(), (folder / "inner" / "b").read_text()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced (`sync NAME`) and renamed (`name NAME`), in order; new names stand as `new`."""
    calls: list[str] = []
    fsync, replace, rename, exchanged = os.fsync, os.replace, Path.rename, storage._exchanged

    def name(path: object) -> str:
        last = Path(str(path)).name
        return "new" if last.endswith(".new") else last

    def recording_fsync(handle: int) -> None:
        calls.append(f"sync {name(Path(f'/proc/self/fd/{handle}').readlink())}")
        fsync(handle)

    def recording_replace(source: Any, target: Any) -> None:
        calls.append(f"name {name(target)}")
        replace(source, target)

    def recording_rename(self: Path, target: Path) -> Path:
        calls.append(f"name {name(target)}")
        return rename(self, target)

    def recording_exchange(one: Path, other: Path) -> bool:
        calls.append(f"name {name(other)}")
        return exchanged(one, other)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    monkeypatch.setattr(Path, "rename", recording_rename)
    monkeypatch.setattr(storage, "_exchanged", recording_exchange)
    return calls


def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path: Path, recorded: list[str]) -> None:
    whole_file(tmp_path / "file", b"x")
    assert recorded == ["sync new", "name file", f"sync {tmp_path.name}"]


@pytest.mark.parametrize("before", [lambda *_: None, Path.mkdir], ids=["nothing there", "a folder there"])
def test_a_folder_is_synced_file_by_file_before_it_gets_its_name(
    tmp_path: Path, recorded: list[str], before: Callable[[Path], object]
) -> None:
    before(tmp_path / "folder")
    whole_folder(tmp_path / "folder", filled("x"))
    named = recorded.index("name folder")
    assert sorted(recorded[:named]) == ["sync a", "sync b", "sync inner", "sync new"]
    assert recorded[named + 1 :] == [f"sync {tmp_path.name}"]


def test_folders_made_on_the_way_are_synced_into_their_parents(tmp_path: Path, recorded: list[str]) -> None:
    whole_folder(tmp_path / "one" / "two" / "folder", filled("x"))
    assert recorded[:2] == [f"sync {tmp_path.name}", "sync one"]


def test_what_is_appended_is_synced(tmp_path: Path, recorded: list[str]) -> None:
    with (tmp_path / "log").open("ab") as file:
        append_synced(file.fileno(), b"line\n")
    assert recorded == ["sync log"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_could_not_be_appended_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def failing(handle: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", failing)
    (tmp_path / "log").write_bytes(b"first\n")
    with (tmp_path / "log").open("ab") as file, pytest.raises(type(error)):
        append_synced(file.fileno(), b"second\n")
    assert (tmp_path / "log").read_bytes() == b"first\n"


def test_a_folder_that_could_not_be_filled_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    def failing(folder: Path) -> None:
        filled("new")(folder)
        raise KeyboardInterrupt

    whole_folder(tmp_path / "folder", filled("old"))
    with pytest.raises(KeyboardInterrupt):
        whole_folder(tmp_path / "folder", failing)
    assert read(tmp_path / "folder") == ["old", "old"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("name", ["folder", "f" * 255, "ü" * 127, ".hidden"])
def test_a_folder_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path, name: str) -> None:
    whole_folder(tmp_path / name, filled("old"))
    whole_folder(tmp_path / name, filled("new"))
    assert read(tmp_path / name) == ["new", "new"]
    assert names(tmp_path) == [name]


def test_where_names_cannot_be_exchanged_a_folder_is_replaced_by_way_of_a_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_exchanged", lambda *_: False)
    whole_folder(tmp_path / "folder", filled("old"))
    whole_folder(tmp_path / "folder", filled("new"))
    assert read(tmp_path / "folder") == ["new", "new"]
    assert names(tmp_path) == ["folder"]


def test_what_a_dead_process_left_goes_with_the_next_folder_and_what_a_living_one_fills_stays(tmp_path: Path) -> None:
    def meanwhile(_: Path) -> None:
        whole_folder(tmp_path / "folder", filled("quick"))

    def slow(folder: Path) -> None:
        meanwhile(folder)
        filled("slow")(folder)

    dead = tmp_path / ".folder-0123456789ab.new"
    dead.mkdir()
    (dead / "a").write_text("half")
    others = [".folder-mine.new", ".folder-2-0123456789ab.new"]
    for other in others:
        (tmp_path / other).mkdir()
    whole_folder(tmp_path / "folder", slow)
    assert read(tmp_path / "folder") == ["slow", "slow"]
    assert names(tmp_path) == sorted(["folder", *others])


def test_a_third_name_is_given_back_when_the_second_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.joinpath("a").read_text() == "new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    whole_folder(tmp_path / "folder", filled("old"))
    monkeypatch.setattr(storage, "_exchanged", lambda *_: False)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(StorageFailed, match=r"folder could not be written: Input/output error"):
        whole_folder(tmp_path / "folder", filled("new"))
    assert read(tmp_path / "folder") == ["old", "old"]


def test_a_reader_always_finds_one_whole_folder_at_the_name(tmp_path: Path) -> None:
    whole_folder(tmp_path / "folder", filled("0"))
    done = threading.Event()

    def write() -> None:
        for number in range(150):
            whole_folder(tmp_path / "folder", filled(str(number)))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    missing = 0
    while not done.is_set():
        missing += not (tmp_path / "folder").is_dir()
    writer.join()
    assert missing == 0


def test_a_link_stays_a_link_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    whole_folder(tmp_path / "disk" / "folder", filled("old"))
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "folder")
    whole_folder(tmp_path / "link", filled("new"))
    assert (tmp_path / "link").is_symlink()
    assert read(tmp_path / "disk" / "folder") == ["new", "new"]
    (tmp_path / "file").symlink_to(tmp_path / "disk" / "file")
    whole_file(tmp_path / "file", b"x")
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "disk" / "file").read_bytes() == b"x"


def test_modes_follow_the_umask_the_old_file_or_the_owners_privacy(tmp_path: Path) -> None:
    def mode(name: str) -> int:
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    (tmp_path / "plain").touch()
    whole_file(tmp_path / "file", b"x")
    assert mode("file") == mode("plain")
    (tmp_path / "file").chmod(0o640)
    whole_file(tmp_path / "file", b"y")
    assert mode("file") == 0o640
    whole_file(tmp_path / "file", b"z", private=True)
    assert mode("file") == 0o600


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: whole_file(folder / "there", b"x"), "is not a regular file"),
        (lambda folder: whole_folder(folder / "there" / "file", filled("x")), "is not a folder"),
        (lambda folder: whole_folder(folder / "there" / "file" / "below", filled("x")), "Not a directory"),
        (lambda folder: whole_file(folder / "nowhere" / "file", b"x"), "No such file"),
        (lambda folder: whole_file(folder / ("x" * 300), b"x"), "File name too long"),
        (lambda *_: whole_file("/dev/null", b"x"), "is not a regular file"),
    ],
)
def test_a_place_that_cannot_be_written_is_named_and_left_alone(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    whole_folder(tmp_path / "there", lambda folder: whole_file(folder / "file", b"kept"))
    with pytest.raises(StorageFailed, match=message):
        write(tmp_path)
    assert (tmp_path / "there" / "file").read_bytes() == b"kept"
    assert names(tmp_path) == ["there"]


def test_names_do_nothing_to_a_terminal() -> None:
    with pytest.raises(StorageFailed, match=r"\\x1b\[31m could not be read: gone"), storage_errors("\x1b[31m", "read"):
        raise OSError(errno.ENOENT, "gone")


KILLED = """
import sys
from pathlib import Path
from sparsevec.storage import whole_folder

def fill(folder):
    for part in "ab":
        (folder / part).write_text(number * 10_000)

for number in map(str, range(10**6)):
    whole_folder(sys.argv[1], fill)
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [0.0, 0.003, 0.011, 0.023])
def test_killed_at_any_moment_the_old_folder_or_the_new_is_there(tmp_path: Path, after: float) -> None:
    target = tmp_path / "folder"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(target)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while child.stdout.readline() != "5\n":
            pass
        time.sleep(after)
        child.send_signal(signal.SIGKILL)
    first, second = (target / "a").read_text(), (target / "b").read_text()
    assert first == second == first[:1] * 10_000 or first == second
    assert int(first[: len(first) // 10_000]) >= 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small filesystem needs the privilege to mount one")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_what_was_there(small_disk: Path) -> None:
    whole_folder(small_disk / "folder", filled("old"))
    whole_file(small_disk / "file", b"old")
    with pytest.raises(StorageFailed, match=r"folder could not be written: No space left"):
        whole_folder(small_disk / "folder", filled("x" * 300_000))
    with pytest.raises(StorageFailed, match=r"file could not be written: No space left"):
        whole_file(small_disk / "file", b"x" * 300_000)
    assert read(small_disk / "folder") == ["old", "old"]
    assert (small_disk / "file").read_bytes() == b"old"
    assert names(small_disk) == ["file", "folder"]


def test_a_filesystems_own_root_cannot_be_replaced_and_is_left_alone(small_disk: Path) -> None:
    (small_disk / "theirs").write_text("kept")
    with pytest.raises(StorageFailed, match="could not be written"):
        whole_folder(small_disk, filled("x"))
    assert (small_disk / "theirs").read_text() == "kept"
    assert names(small_disk.parent) == [small_disk.name]
