"""Nodes of Elasticsearch and OpenSearch from Maven Central, where a JDK and Maven are but no docker.

The download is kept in a cache folder that any user may read (`/var/cache` for root, who may not run Elasticsearch: the
node is then nobody's process). Everything else a node writes is in one temporary folder, which goes when it stops, or
when we are killed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType

from sparsevec.testing.http import ask, until

__all__ = ["Node", "Release", "Unavailable", "free_ports", "jdk", "jdks"]

_MAVEN = ("mvn", "--quiet", "--batch-mode")
_DEPENDENCY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_ELASTICSEARCH = "org.elasticsearch.distribution.integ-test-zip:elasticsearch"
_NOBODY = 65534
_PATIENCE = 300  # seconds until a node that does not answer is given up

# Kills the process group named last and removes the folder, when our end of its standard input closes: at `stop`, or
# because this process ended in whatever way. A JVM that is killed leaves the socket of its attach listener.
_GUARD = """
while read -r line; do group=$line; done
if [ -n "$group" ]; then
    sockets=$(pgrep -g "$group" | sed 's|^|/tmp/.java_pid|')
    kill -KILL "-$group"
    rm -f $sockets
fi 2>/dev/null
rm -rf "$0"
"""


class Unavailable(Exception):
    """An engine cannot be had here; the message says why."""


@dataclass(frozen=True)
class Release:
    """An engine that Maven Central has: `java` is the oldest JDK that runs it."""

    engine: str  # elasticsearch or opensearch
    version: str
    java: int

    def unpacked(self) -> Path:
        """The folder that holds it; fetched when it is not there. Raises Unavailable."""
        home = _cache() / f"{self.engine}-{self.version}"
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=_cache()) as scratch:
                self._fetch(Path(scratch) / "new")
                os.chmod(scratch, 0o755)  # noqa: PTH101
                subprocess.run(["chmod", "-R", "a+rX", scratch], check=True)
                if not home.exists():  # else somebody else was faster
                    (Path(scratch) / "new").rename(home)
        return home

    def _fetch(self, folder: Path) -> None:
        if self.engine == "opensearch":
            with as_file(files(__package__) / "maven" / "pom.xml") as pom:
                goal = [f"{_DEPENDENCY}:copy-dependencies", "--file", str(pom), f"-Dengine.version={self.version}"]
                _maven(*goal, f"-DoutputDirectory={folder}", cwd=folder.parent)
            return
        zip_folder = folder.with_name("zip")
        artifact = f"{_ELASTICSEARCH}:{self.version}:zip"
        _maven(f"{_DEPENDENCY}:unpack", f"-Dartifact={artifact}", f"-DoutputDirectory={zip_folder}", cwd=folder.parent)
        (unpacked,) = zip_folder.iterdir()
        for script in (unpacked / "bin").iterdir():
            script.chmod(0o755)
        unpacked.rename(folder)


def _maven(*arguments: str, cwd: Path) -> None:
    """Run it in `cwd`, where it leaves files of its own."""
    if shutil.which("mvn") is None:
        raise Unavailable("no Maven (mvn) to fetch a node with")
    run = subprocess.run([*_MAVEN, *arguments], capture_output=True, text=True, cwd=cwd)
    if run.returncode:
        first, *_ = run.stdout.splitlines() or ["no reason given"]
        raise Unavailable(f"Maven could not fetch it: {first:.500}")


def _cache() -> Path:
    home = Path("/var/cache") if _is_root() else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "sparsevec"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_root() -> bool:
    return os.geteuid() == 0


# ---- JDKs


def jdk(oldest: int) -> tuple[int, Path]:
    """The JDK here that is nearest to `oldest` from above, with its major version. Raises Unavailable."""
    there = jdks()
    if not (enough := [major for major in there if major >= oldest]):
        raise Unavailable(f"no JDK {oldest} or later (found {sorted(there) or 'none'}; JAVA_HOME may name one)")
    return min(enough), there[min(enough)]


def jdks() -> dict[int, Path]:
    """Every JDK in the usual places, by major version."""
    return {major: home for home in _java_homes() if (major := _java_version(home))}


def _java_homes() -> Iterator[Path]:
    """Those that the environment names come last: they win."""
    for root, pattern in (
        ("/usr/lib/jvm", "*"),
        ("/usr/java", "*"),
        ("/opt", "*j[dr][ek]*"),
        ("/opt/java", "*"),
        ("/Library/Java/JavaVirtualMachines", "*/Contents/Home"),
        (str(Path.home() / ".sdkman/candidates/java"), "*"),
        (str(Path.home() / ".jdks"), "*"),
    ):
        yield from sorted(Path(root).glob(pattern))
    if java := shutil.which("java"):
        yield Path(java).resolve().parent.parent
    yield from (Path(os.environ[name]) for name in sorted(os.environ) if re.fullmatch(r"(ES_)?JAVA_?\d*_HOME", name))


def _java_version(home: Path) -> int | None:
    """From the `release` file that every JDK carries; None for a folder without a compiler."""
    if not (home / "bin" / "javac").exists() or not (home / "release").exists():
        return None
    found = re.search(r'JAVA_VERSION="(?:1\.)?(\d+)', (home / "release").read_text())
    return int(found[1]) if found else None


# ---- nodes


class Node:
    """One node on loopback, with 512 MB of heap and a JVM that starts fast and stays slow; `shipped`: with 2 GB and
    the JVM's options as the engine ships them, to measure on.

    Ports and data stay from start to start: what was killed comes back with what it had. `settings` are those of the
    engine's configuration file, `files` others (by name, with their text) of Elasticsearch's configuration folder.
    """

    def __init__(
        self,
        release: Release,
        settings: Mapping[str, str | int] | None = None,
        files: Mapping[str, str] | None = None,
        *,
        shipped: bool = False,
    ) -> None:
        self.release, self._shipped = release, shipped
        self.java, self._jdk = jdk(release.java)
        self._home = release.unpacked()
        self.port, self.transport_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"sparsevec-{release.engine}-"))
        self._settings = {**self._defaults(), **(settings or {})}
        self._files = files or {}
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, self.folder], stdin=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._write_configuration()

    def _defaults(self) -> dict[str, str | int]:
        defaults: dict[str, str | int] = {
            "cluster.name": f"sparsevec-{self.port}",
            "node.name": f"node-{self.port}",
            "network.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": self.transport_port,
            "discovery.type": "single-node",
            "action.destructive_requires_name": "false",
            "cluster.routing.allocation.disk.threshold_enabled": "false",
        }
        if self.release.engine == "elasticsearch":
            defaults["path.data"], defaults["path.logs"] = str(self.folder / "data"), str(self.folder / "logs")
            defaults["indices.breaker.total.use_real_memory"] = "false"
            defaults["xpack.security.enabled"] = "false"
        if self.release.engine == "elasticsearch" and not self.release.version.startswith("8."):
            defaults["indices.merge.disk.watermark.high"] = "1b"
        return defaults

    def _write_configuration(self) -> None:
        if self.release.engine == "elasticsearch":
            shutil.copytree(self._home / "config", self.folder / "config")
            lines = [f"{name}: {json.dumps(value)}\n" for name, value in self._settings.items()]
            (self.folder / "config" / "elasticsearch.yml").write_text("".join(lines))
            jvm = "jvm.options.d/heap.options" if self._shipped else "jvm.options"
            (self.folder / "config" / jvm).write_text("\n".join(self._jvm_options()))
            for name, text in self._files.items():
                (self.folder / "config" / name).write_text(text)
        else:
            main = files(__package__) / "maven" / "OpenSearchNode.java"
            (self.folder / "OpenSearchNode.java").write_text(main.read_text())
        (self.folder / "tmp").mkdir()
        if _is_root():
            subprocess.run(["chown", "-R", f"{_NOBODY}:{_NOBODY}", self.folder], check=True)

    def start(self) -> Node:
        """Up and healthy. Raises Unavailable with the end of the node's log."""
        self.launch()
        self.wait(f"/_cluster/health?wait_for_status=yellow&timeout={_PATIENCE}s")
        return self

    def launch(self) -> None:
        """Start, and do not wait."""
        assert self._process is None, "a node that runs is not started again"
        assert self._guard.stdin is not None
        nobody = _NOBODY if _is_root() else None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=nobody,
                group=nobody,
                extra_groups=[] if _is_root() else None,
            )
        print(self._process.pid, file=self._guard.stdin)

    def _command(self) -> list[str | Path]:
        if self.release.engine == "elasticsearch":
            return [self._home / "bin" / "elasticsearch"]
        settings = [f"{name}={value}" for name, value in self._settings.items()]
        java = [*self._jvm_options(), "-cp", f"{self._home}/*", "OpenSearchNode.java", "node"]
        return [self._jdk / "bin" / "java", *java, *settings]

    def _jvm_options(self) -> list[str]:
        tmp = f"-Djava.io.tmpdir={self.folder / 'tmp'}"
        if not self._shipped:
            return ["-Xms512m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", tmp]
        vectors = ["--add-modules=jdk.incubator.vector"] if self.release.engine == "opensearch" else []
        return ["-Xms2g", "-Xmx2g", *vectors, tmp]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "ES_JAVA_HOME": str(self._jdk),
            "ES_PATH_CONF": str(self.folder / "config"),
            "ES_TMPDIR": str(self.folder / "tmp"),
        }

    def wait(self, path: str) -> None:
        """Until `path` is answered with 200."""
        process = self._process
        assert process is not None
        name = f"{self.release.engine} {self.release.version}"

        def ended() -> Unavailable | None:
            return None if process.poll() is None else Unavailable(f"{name} did not come up: {self._last_words()}")

        try:
            until(lambda: self.get(path), _PATIENCE, ended)
        except TimeoutError as error:
            raise Unavailable(f"{name} did not come up: {self._last_words()}") from error

    def get(self, path: str) -> dict[str, object]:
        """The JSON that the node answers to `path`. Raises OSError or HTTPException."""
        found: dict[str, object] = ask("127.0.0.1", self.port, path, timeout=_PATIENCE)
        return found

    def _last_words(self) -> str:
        return (self.folder / "log").read_text(errors="replace").strip()[-2000:]

    def revive(self) -> None:
        """Start it when it was killed."""
        if self._process is None:
            self.start()

    def kill(self) -> None:
        """As a power cut would end it. `start` brings it back."""
        assert self._process is not None
        assert self._guard.stdin is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        print(file=self._guard.stdin)

    def stop(self) -> None:
        """For good: the process, its ports and its files are gone afterwards."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
        if self._process is not None:
            self._process.wait()
            self._process = None

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_ports(n: int) -> list[int]:
    """`n` different ports on loopback that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
