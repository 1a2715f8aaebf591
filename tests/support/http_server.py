"""A real HTTP server on the loopback that misbehaves as told, and writes down what it was asked.

It plays the model hub (HEAD and GET of a file, X-Linked-ETag and X-Linked-Size) and the public drive (a folder listing, a file that
comes as an attachment). What a page does wrong is data: a Page.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Page:
    """One address. Everything but the body is optional: without it the server behaves.

    stated_size, stated_sha256: what HEAD says (sha256 "" for no hash at all). length: what GET claims its whole body to be.
    cuts: how many bytes each of the first GETs gets before the connection ends; it ends by a reset where resets is set, and goes
    silent instead where stalls is. ignores_range: always answers with the whole. location: where a redirect goes, of HEAD and of
    GET; location_of_get: only of GET.
    """

    body: bytes = b""
    kind: str = "application/octet-stream"
    attachment: str | None = None
    stated_size: int | None = None
    stated_sha256: str | None = None
    cuts: list[int] = field(default_factory=list)
    resets: bool = False
    stalls: bool = False
    length: int | None = None
    location: str | None = None
    location_of_get: str | None = None
    ignores_range: bool = False
    status: int = 200


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Server:
    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def ranges(self, path: str) -> list[str | None]:
        """The Range of each GET of a path, None for the whole."""
        return [request.range for request in self.asked if request.method == "GET" and request.path == path]


@contextlib.contextmanager
def running(certificate: Path | None = None) -> Iterator[Server]:
    """A server of its own. certificate: a PEM file with key and certificate, for https."""
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    listening.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        scheme = "https"
    server = Server(f"{scheme}://127.0.0.1:{listening.server_port}")
    listening.told = server  # type: ignore[attr-defined]
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        listening.shutdown()
        listening.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        page = self._page()
        if page is None:
            return
        if page.location is not None:
            self.send_response(302)
            self.send_header("Location", page.location)
        else:
            self.send_response(page.status)
        digest = hashlib.sha256(page.body).hexdigest() if page.stated_sha256 is None else page.stated_sha256
        if digest:
            self.send_header("X-Linked-ETag", f'"{digest}"')
        self.send_header("X-Linked-Size", str(len(page.body) if page.stated_size is None else page.stated_size))
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()

    def do_GET(self) -> None:
        page = self._page()
        if page is None:
            return
        if (elsewhere := page.location_of_get or page.location) is not None:
            self._end(302, {"Location": elsewhere})
            return
        if page.status != 200:
            self._end(page.status, {})
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked and not page.ignores_range else 0
        total = len(page.body) if page.length is None else page.length
        if asked and start >= total and not page.ignores_range:
            self._end(416, {"Content-Range": f"bytes */{total}"})
            return
        content = page.body[start:]
        # Taken before anything is sent: after the headers the client may be at its next request already.
        cut = page.cuts.pop(0) if page.cuts else None
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if page.attachment is not None:
            self.send_header("Content-Disposition", f'attachment; filename="{page.attachment}"')
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        if cut is None:
            self.close_connection = len(content) != total - start
            with contextlib.suppress(ConnectionError):  # gdown closes its first answer unread when it goes on
                self.wfile.write(content)
            return
        self.close_connection = True
        self.wfile.write(content[:cut])
        if page.stalls:
            self.server.told.stopped.wait(60)  # type: ignore[attr-defined]
        if page.resets:
            time.sleep(0.3)  # what was sent must have been read: a reset throws away what was not
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def _page(self) -> Page | None:
        server: Server = self.server.told  # type: ignore[attr-defined]
        asked = Asked(self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization"))
        server.asked.append(asked)
        page = server.pages.get(self.path)
        if page is None:
            self._end(404, {})
        return page

    def _end(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass
