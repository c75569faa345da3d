"""A proxy that misbehaves in front of a real engine.

A fault is a function of one `Exchange`: it decides what reaches the engine, and what of the answer reaches the client.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Exchange(BaseHTTPRequestHandler):
    """One request of the client, and what becomes of it."""

    protocol_version = "HTTP/1.1"
    server: _Listener

    def forward(self) -> Answer:
        """What the engine answers; the request has taken effect there."""
        with self.send() as upstream:
            answer = upstream.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            return Answer(answer.status, headers, answer.read())

    @contextmanager
    def send(self) -> Iterator[http.client.HTTPConnection]:
        """The whole request is with the engine, its answer not yet here."""
        upstream = http.client.HTTPConnection(*self.proxy.upstream, timeout=60)
        try:
            upstream.request(self.command, self.path, self.body(), dict(self.headers.items()))
            yield upstream
        finally:
            upstream.close()

    def body(self) -> bytes:
        return self.rfile.read(self.size)

    @property
    def size(self) -> int:
        """Of the request's body, in bytes."""
        return int(self.headers.get("content-length", 0))

    @property
    def writes(self) -> bool:
        """Documents, to any of our engines."""
        return "/_bulk" in self.path or (self.command == "PUT" and "/points" in self.path)

    def answer(self, answer: Answer, *, bytes_sent: int | None = None) -> None:
        """To the client: all of it, or only so many bytes of the body."""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:bytes_sent])

    def reset(self) -> None:
        """Cut the connection off, as a crash of the other side does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    @property
    def proxy(self) -> Proxy:
        return self.server.proxy

    def _serve(self) -> None:
        self.proxy.serve(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


Fault: TypeAlias = Callable[[Exchange], None]
Script: TypeAlias = Callable[[Exchange], "Fault | None"]


# ---- faults


def healthy(exchange: Exchange) -> None:
    exchange.answer(exchange.forward())


def answer_lost(exchange: Exchange) -> None:
    """The write took effect, and nobody hears of it."""
    exchange.forward()
    exchange.reset()


def answer_torn(exchange: Exchange) -> None:
    """Half of the answer arrives."""
    answer = exchange.forward()
    exchange.answer(answer, bytes_sent=len(answer.body) // 2)
    exchange.reset()


def request_torn(exchange: Exchange) -> None:
    """The connection breaks while the request is being sent; the engine never sees it."""
    exchange.rfile.read(exchange.size // 2)
    exchange.reset()


def refused_next(exchange: Exchange) -> None:
    """This one is answered; after it nobody listens any more, until `Proxy.listen`."""
    healthy(exchange)
    exchange.close_connection = True
    exchange.proxy.refuse()


def status(code: int, **headers: str) -> Fault:
    """Something between us and the engine answers in its place."""

    def refuse(exchange: Exchange) -> None:
        exchange.body()
        exchange.answer(Answer(code, {"content-type": "text/plain"} | _dashed(headers), b"no"))

    return refuse


def status_after_write(code: int) -> Fault:
    """A gateway that lost patience: the engine did what was asked, the client is told that it failed."""

    def lie(exchange: Exchange) -> None:
        exchange.forward()
        exchange.answer(Answer(code, {"content-type": "text/html"}, b"<html>gateway</html>"))

    return lie


def slow(seconds: float) -> Fault:
    """The answer takes its time."""

    def wait(exchange: Exchange) -> None:
        answer = exchange.forward()
        time.sleep(seconds)
        exchange.answer(answer)

    return wait


def held(seconds: float) -> Fault:
    """The engine never sees the request, and nobody answers for so long, or until the client has left."""

    def hold(exchange: Exchange) -> None:
        exchange.body()
        exchange.connection.settimeout(seconds)
        with suppress(OSError):
            exchange.connection.recv(1)
        exchange.reset()

    return hold


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


# ---- scripts


def in_turn(faults: Iterable[Fault | None]) -> Script:
    """One for each write, in order; afterwards, and for what is not a write, none."""
    left: Iterator[Fault | None] = iter(faults)
    return lambda exchange: next(left, None) if exchange.writes else None


def at_random(faults: list[Fault], rate: float, seed: int) -> Script:
    """Each write meets one of `faults` at this rate."""
    dice = random.Random(seed)
    return lambda exchange: dice.choice(faults) if exchange.writes and dice.random() < rate else None


class Proxy:
    """Listens on loopback in front of the engine at `upstream` (a url), and does what `script` says.

    `injected` counts the faults by name.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self.upstream = (parts.hostname, parts.port)
        self.script: Script = in_turn([])
        self.injected: Counter[str] = Counter()
        self._listener: _Listener | None = None
        self._switch = threading.RLock()  # several requests are under way
        self.port = 0
        self.listen()
        self.url = f"{parts.scheme}://127.0.0.1:{self.port}"

    def serve(self, exchange: Exchange) -> None:
        fault = self.script(exchange)
        if fault is not None:
            self.injected[fault.__qualname__.partition(".")[0]] += 1
        (fault or healthy)(exchange)

    def listen(self) -> None:
        """Again, after `refuse`; on the same port."""
        with self._switch:
            if self._listener is None:
                self._listener = _Listener(self)
                self.port = self._listener.server_port
                threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True).start()

    def refuse(self) -> None:
        """Connections are refused from now on, and those that are open end."""
        with self._switch:
            if self._listener is not None:
                self._listener.shutdown()
                self._listener.server_close()
                self._listener = None

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()


class _Listener(ThreadingHTTPServer):
    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", proxy.port), Exchange)

    def finish_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().finish_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Without the farewell of the base class: a reset is a reset."""
        self._connections.discard(request)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is what the faults are about."""

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
