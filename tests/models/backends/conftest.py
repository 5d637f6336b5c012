"""A server on this machine, and trios whose variants it answers for."""

from __future__ import annotations

import threading
from contextlib import closing
from http.server import ThreadingHTTPServer

import pytest
from endpoint import Speaks, says

from models import (
    find_trio,
    open_backend,
)


@pytest.fixture
def server():
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Speaks)
    http_server.daemon_threads, http_server.requests, http_server.gone = True, [], threading.Event()
    http_server.say = says("Why", " not", "?")
    threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True).start()
    yield http_server
    http_server.shutdown()
    http_server.server_close()


@pytest.fixture
def trio_of(server, tmp_path):
    """Write a trio of endpoints on the server; some of its variants may be other TOML."""

    def made(**tables: str):
        url = f"http://127.0.0.1:{server.server_port}/v1"
        own = {
            "base": f'name = "b"\nendpoint = "{url}"\nmodel = "base-model"',
            "task": f'name = "t"\nendpoint = "{url}/"\nmodel = "task-model"\nends_with = "\\n"',
            "instruct": f'name = "i"\nendpoint = "{url}"\nmodel = "chat-model"\nreads = "chat"',
        }
        text = "".join(f"[trio.far.{role}]\n{table}\n" for role, table in {**own, **tables}.items())
        path = tmp_path / "far.toml"
        head = '[trio.far]\ntitle = "Far"\nprecision = "none"\nmax_context = 128\n'
        path.write_text(head + text)
        return find_trio("far", path)

    return made


@pytest.fixture
def far(trio_of):
    with closing(open_backend(trio_of())) as backend:
        yield backend
