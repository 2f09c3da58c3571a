"""What surrounds all browsers' sessions: strangers are refused, and the first worker is ready before the first click."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

from . import state

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class KnownHosts:
    """Answers 403 to a Host or Origin that ``server.allowedHosts`` does not name.

    Streamlit checks its WebSocket so; a page of another site must get nothing else either (DNS rebinding).
    """

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "http" and not _known(scope["headers"]):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"This host or origin is not in server.allowedHosts."})
            return
        await self._app(scope, receive, send)


def _known(headers: list[tuple[bytes, bytes]]) -> bool:
    """Streamlit's own rule for hosts, for both headers; several reasons to send no Origin are good ones."""
    named = {name: value.decode("latin-1") for name, value in headers if name in (b"host", b"origin")}
    origin = named.get(b"origin")
    return is_host_allowed(named.get(b"host")) and (origin is None or is_host_allowed(urlsplit(origin).netloc))


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[None]:
    """Opens the store and starts the executor, with its blank worker, when the server starts; closes it at the end."""
    # Until a first session has called st.navigation, Streamlit 1.67 takes the files of pages/ for the page table, and a
    # deep link runs one of them without app.py.
    PagesManager.uses_pages_directory = False
    services = await asyncio.to_thread(state.services)
    yield
    await asyncio.to_thread(services.executor.close)


MIDDLEWARE = (Middleware(KnownHosts),)
