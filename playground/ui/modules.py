"""The page's ES modules: the address they are served at, and the JavaScript that calls them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent / "static" / "js"
_SOURCES = {path.name: path.read_bytes() for path in sorted(_FOLDER.glob("*.js"))}
# In the path, not in a query: the imports of a module have it, too. So no cache shows an old module
# beside a new page, and a cached one is good for ever.
_ADDRESS = f"js/{hashlib.sha256(b''.join(_SOURCES.values())).hexdigest()[:12]}"


def route() -> Route:
    """Return the route of the modules; it reads no file, so there is nothing else to be had."""
    return Route(f"/{_ADDRESS}/{{name}}", _serve)


def _serve(request: Request) -> Response:
    source = _SOURCES.get(request.path_params["name"])
    if source is None:
        return Response(status_code=404)
    forever = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(source, media_type="text/javascript", headers=forever)


def preloads() -> str:
    """Return markup that has the browser fetch all modules at once, before any is asked for."""
    return "".join(f'<link rel="modulepreload" href="{_ADDRESS}/{name}">' for name in _SOURCES)


def load(name: str) -> str:
    """Return a JavaScript expression: a promise of what a module exports.

    The address is relative to the page, as those of Gradio's own scripts are: it is right behind a
    proxy's path, too. Without a base it would be relative to the script of Gradio's that runs it.
    """
    return f"import(new URL('{_ADDRESS}/{name}.js', document.baseURI))"


def mount(name: str) -> str:
    """Return the `js_on_load` of a component that a module paints."""
    component = "{ element, props, trigger, watch }"
    modules = f"Promise.all([{load('component')}, {load(name)}])"
    return f"{modules}.then(([{{ start }}, {{ mount }}]) => start(mount, {component}))"


def listener(name: str, function: str, *arguments: object) -> str:
    """Return the `js` of an event: it calls a module's function with these and the input values."""
    given = "".join(f"{json.dumps(argument)}, " for argument in arguments)
    return f"(...values) => {load(name)}.then((module) => module.{function}({given}values))"
