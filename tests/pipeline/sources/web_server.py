"""A web server that misbehaves to order."""

import hashlib
import random
import re
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = random.Random(0).randbytes(1 << 20)
"""16 of the pieces that fetch reads at a time."""
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class WebServer:
    """Serves ``CONTENT``; each request takes the next behaviour of ``script``, then ``ok`` for ever."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.ranges: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/some/file.txt"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(web: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            web.ranges.append(wanted)
            behaviour = web.script.pop(0) if web.script else "ok"
            offset = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", wanted)) else 0
            getattr(self, behaviour)(offset)

        def ok(self, offset: int) -> None:
            if offset >= len(CONTENT):
                self.head(416, 0)
                return
            self.head(206 if offset else 200, len(CONTENT) - offset, offset)
            self.wfile.write(CONTENT[offset:])

        def ignores_range(self, offset: int) -> None:
            self.ok(0)

        def wrong_range(self, offset: int) -> None:
            self.head(206, len(CONTENT), offset + 7 if offset else 0)
            self.wfile.write(CONTENT)

        def cut(self, offset: int) -> None:
            rest = CONTENT[offset:]
            self.head(206 if offset else 200, len(rest), offset)
            self.wfile.write(rest[: len(rest) // 2])

        def cut_without_length(self, offset: int) -> None:
            self.head(200, None)
            self.wfile.write(CONTENT[: len(CONTENT) // 2])

        def flips_a_bit(self, offset: int) -> None:
            rest = bytearray(CONTENT[offset:])
            self.head(206 if offset else 200, len(rest), offset)
            rest[len(rest) // 3] ^= 1
            self.wfile.write(rest)

        def flips_a_bit_and_cuts(self, offset: int) -> None:
            self.head(200, len(CONTENT))
            self.wfile.write(b"?" + CONTENT[1 : 1 << 17])

        def drips(self, offset: int) -> None:
            self.head(200, len(CONTENT))
            for at in range(0, len(CONTENT), 1 << 16):
                self.wfile.write(CONTENT[at : at + (1 << 16)])
                time.sleep(0.2)

        def stalls(self, offset: int) -> None:
            self.head(200, len(CONTENT))
            self.wfile.write(CONTENT[: 1 << 16])
            time.sleep(1)

        def never_ends(self, offset: int) -> None:
            self.head(200, None)
            for _ in range(1000):
                self.wfile.write(bytes(1 << 16))

        def redirects(self, offset: int) -> None:
            self.send_response(302)
            self.send_header("Location", "/elsewhere/file.txt")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def redirects_nowhere(self, offset: int) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://{'x' * 64}.org/file.txt")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def busy(self, offset: int) -> None:
            self.head(503, 0)

        def missing(self, offset: int) -> None:
            self.head(404, 0)

        def head(self, status: int, length: int | None, offset: int = 0) -> None:
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {offset}-{len(CONTENT) - 1}/{len(CONTENT)}")
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the client hangs up, as it should on some of these answers
                super().handle()

    return Handler
