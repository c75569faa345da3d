"""What people install: the source distribution and the wheel, and the wheel's commands in an empty environment.

The environment has nothing but the wheel, what `pip` brings for its extra `demo`, and torch, which is borrowed from the
environment of these tests (PyPI's is 3 GB). It is run in a folder without the repository.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import sparsevec

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows: nothing that lies about beside them is built by accident."""
    copy = tmp_path_factory.mktemp("repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def dist(tracked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from that sdist."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, tracked], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel and its extra `demo`."""
    home = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    python = home / "bin/python"
    purelib = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    (Path(purelib.strip()) / "torch_alone.pth").write_text(str(torch_alone(home / "torch_alone")))
    subprocess.run([python, "-m", "pip", "install", f"{wheel}[demo]"], check=True, capture_output=True)
    return home / "bin"


def torch_alone(folder: Path) -> Path:
    """Links to torch and to what it requires, as far as that is installed here."""
    folder.mkdir()
    names, linked = ["torch"], set[str]()
    while names:
        name = names.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        linked.add(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(found.locate_file(top))).resolve())
        required = [Requirement(text) for text in found.requires or ()]
        names += [
            r.name for r in required if r.name not in linked and (not r.marker or r.marker.evaluate({"extra": ""}))
        ]
    return folder


def run(command: list[Path | str], folder: Path) -> subprocess.CompletedProcess[str]:
    """In `folder`, without what could lead back to the repository."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def test_the_wheel_holds_every_file_of_the_package(tracked: Path, wheel: Path) -> None:
    packages = {"sparsevec": "sparsevec", "adapters": "sparsevec_adapters"}
    files = {
        f"{installed}/{path.relative_to(tracked / source).as_posix()}"
        for source, installed in packages.items()
        for path in (tracked / source).rglob("*")
        if path.is_file()
    }
    assert files - set(ZipFile(wheel).namelist()) == set()


def test_the_source_distribution_holds_what_building_needs(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "sparsevec/demo/page.html", "sparsevec/demo/data/vectors.npz"} <= names


@pytest.mark.parametrize("command", [["sparsevec"], ["python", "-m", "sparsevec"]], ids=" ".join)
def test_the_installed_command_says_its_version(command: list[str], empty: Path, tmp_path: Path) -> None:
    told = run([empty / command[0], *command[1:], "--version"], tmp_path)
    assert (told.returncode, told.stdout.strip()) == (0, f"sparsevec {sparsevec.__version__}"), told.stderr


def test_the_installed_package_is_that_of_the_environment(empty: Path, tmp_path: Path) -> None:
    told = run([empty / "python", "-c", "import sparsevec; print(sparsevec.__file__)"], tmp_path)
    assert told.stdout.startswith(str(empty.parent)), told.stdout + told.stderr


def test_the_installed_demo_runs_to_its_end(empty: Path, tmp_path: Path) -> None:
    told = run([empty / "sparsevec", "demo", "-d", "256", "--nnz", "8", "--json"], tmp_path)
    assert told.returncode == 0, told.stderr
    outcome = json.loads(told.stdout)
    assert (outcome["ingest"]["written"], outcome["verify"]["exact"]) == (8000, True)
    assert "<svg" in (tmp_path / outcome["page"]).read_text(encoding="utf-8")
