"""Serves the page's ES modules, and generates the JavaScript that calls them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent / "static" / "js"
_SOURCES = {path.name: path.read_bytes() for path in sorted(_FOLDER.glob("*.js"))}
# The hash is part of the path, not a query, so that modules inherit it for their relative imports.
# Thus no cache mixes old modules with a new page, and a module can be cached for ever.
_ADDRESS = f"js/{hashlib.sha256(b''.join(_SOURCES.values())).hexdigest()[:12]}"


def route() -> Route:
    """Return the route of the modules, served from memory, so that no other file is reachable."""
    return Route(f"/{_ADDRESS}/{{name}}", _serve)


def _serve(request: Request) -> Response:
    source = _SOURCES.get(request.path_params["name"])
    if source is None:
        return Response(status_code=404)
    forever = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(source, media_type="text/javascript", headers=forever)


def preloads() -> str:
    """Return markup that preloads all modules in parallel, before the first is imported."""
    return "".join(f'<link rel="modulepreload" href="{_ADDRESS}/{name}">' for name in _SOURCES)


def load(name: str) -> str:
    """Return a JavaScript expression that imports a module: a promise of its exports.

    The URL is resolved against the page, like those of Gradio's own scripts, so that it also works
    below a proxy's path. `import` alone would resolve it against Gradio's script that runs it.
    """
    return f"import(new URL('{_ADDRESS}/{name}.js', document.baseURI))"


def mount(name: str) -> str:
    """Return the `js_on_load` of a component that a module renders."""
    component = "{ element, props, trigger, watch }"
    modules = f"Promise.all([{load('component')}, {load(name)}])"
    return f"{modules}.then(([{{ start }}, {{ mount }}]) => start(mount, {component}))"


def listener(name: str, function: str, *arguments: object) -> str:
    """Return the `js` of an event, which calls a module's function.

    The function gets `arguments`, then the list of the event's input values.
    """
    given = "".join(f"{json.dumps(argument)}, " for argument in arguments)
    return f"(...values) => {load(name)}.then((module) => module.{function}({given}values))"
