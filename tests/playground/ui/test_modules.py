"""The page's ES modules: what is served, for how long, and what happens until they are there."""

from __future__ import annotations

import re

import httpx
import pytest
from page import state, text, wait_done
from scripted import scripted
from starlette.applications import Starlette
from starlette.testclient import TestClient

from playground.ui import modules

ADDRESS = re.search(r"js/\w+/pane\.js", modules.preloads())[0]


def test_a_module_is_javascript_that_a_browser_keeps(serve) -> None:
    reply = httpx.get(f"{serve(scripted())}{ADDRESS}")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/javascript")
    assert "immutable" in reply.headers["cache-control"]
    assert "export const mount" in reply.text


@pytest.mark.parametrize(
    "path",
    [
        ADDRESS.replace("pane.js", "nothing.js"),
        ADDRESS.replace("pane.js", ""),
        ADDRESS.replace("pane.js", "../style.css"),
        ADDRESS.replace("pane.js", "%2e%2e%2fstyle.css"),
        ADDRESS.replace("pane.js", "..%2f..%2fmodules.py"),
        "js/0123456789ab/pane.js",  # of another version
        "js/pane.js",
        f"gradio_api/file={modules.__file__}",
    ],
)
def test_nothing_but_the_modules_of_this_version_is_served(serve, path) -> None:
    url = serve(scripted())
    with httpx.Client() as client:
        request = client.build_request("GET", url)
        request.url = request.url.copy_with(raw_path=f"/{path}".encode())  # dots as they are
        reply = client.send(request)
    assert reply.status_code in (403, 404)


def test_modules_are_found_behind_a_path_that_a_proxy_takes_off() -> None:
    app = Starlette(routes=[modules.route()])
    with TestClient(app, root_path="/behind") as client:
        assert client.get(f"/{ADDRESS}").status_code == 200
    assert ADDRESS in modules.load("pane")
    assert f"'/{ADDRESS}" not in modules.load("pane")  # it is relative to the page


@pytest.mark.browser
def test_values_that_come_before_their_module_are_shown_when_it_is_there(serve, visit) -> None:
    made, routes = [], []
    page = visit(serve(scripted(made=made)))
    page.route("**/js/*/*.js", lambda route: routes.append(route))
    page.reload()
    page.click("#compare")
    page.wait_for_timeout(1500)  # all three have answered
    assert made[0].open_requests == 0
    assert routes
    assert state(page, "task") == "idle"
    page.unroute("**/js/*/*.js")  # lets go what is held
    wait_done(page)
    assert text(page, "task") == "small talk / tell joke"
    page.fill("#instruction textarea", "Again")
    page.click("#compare")  # what comes later is watched
    page.wait_for_function(
        "document.querySelector('#column-base .pane-tokens').textContent.includes('Again')"
    )
