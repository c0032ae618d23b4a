"""``python -m pipeline.orchestration.prefect_server …`` is ``prefect server start …``, for pages of this machine only.

The page has no password.  That it listens on 127.0.0.1 keeps other machines out, not other web sites: one whose name
is made to mean 127.0.0.1 (DNS rebinding) is then read by the user's own browser as if it were this page, and
a web socket may be opened from any site.  Both show in what the browser sends: ``Host`` and ``Origin`` then name that
site.  Whatever does not name this machine gets 403.

Prefect 3 has no setting for it, so its own command runs here with its application wrapped; settings, services and
the rest stay Prefect's.  The temporary server of a flow without a page is not wrapped: it lives for the length of the
run at a port drawn at random, and prefect.toml lets no other site read its answers.

Rejected: starlette's TrustedHostMiddleware (looks at Host only, and web sockets from other sites have the right one),
starting uvicorn ourselves (a second copy of what ``prefect server start`` does).
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

THIS_MACHINE = frozenset({"127.0.0.1", "localhost"})
REFUSAL = b"This page answers only to http://127.0.0.1 and http://localhost.\n"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class LocalOnly:
    """An ASGI application that passes on what a page of this machine asks."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_local(scope["headers"]):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(REFUSAL)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})
        else:
            await receive()  # the request to connect
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: 403


def is_local(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether ``Host``, and ``Origin`` where a browser sends one, name this machine; a request has one of each."""
    hosts = [value for name, value in headers if name == b"host"]
    origins = [value for name, value in headers if name == b"origin"]
    named = [b"//" + host for host in hosts] + origins
    return len(hosts) == 1 and len(origins) <= 1 and all(_host(place) in THIS_MACHINE for place in named)


def _host(place: bytes) -> str | None:
    try:
        return urlsplit(place.decode("ascii")).hostname
    except ValueError:
        return None


def main() -> None:
    from prefect.cli import app as command
    from prefect.server.api import server

    make = server.create_app

    def create_app(*arguments: Any, **options: Any) -> Any:
        app = make(*arguments, **options)
        app.add_middleware(LocalOnly)  # the last one added is asked first
        return app

    server.create_app = create_app
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    command()


if __name__ == "__main__":
    main()
