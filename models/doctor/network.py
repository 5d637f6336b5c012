"""What the page and downloads need of the network: a free port, the Hub, a token, servers' keys."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

from models.doctor.check import DoctorCheck
from models.types import Endpoint, Trio, Weights

TIMEOUT_S = 3.0
"""Seconds that one check may wait for the network."""


def examine_network(trio: Trio, port: int) -> Iterator[DoctorCheck]:
    """Yield a check of the page's port, the Hub, its token, and the key of each server."""
    yield examine_port(port)
    yield examine_hub(_needs_hub(trio))
    yield _token()
    for variant in trio.variants:
        if isinstance(variant.source, Endpoint) and (key := variant.source.key):
            there = bool(os.environ.get(key))
            yield DoctorCheck(
                f"Key of {variant.role}",
                f"{key} is set" if there else f"{key} is not set",
                "ok" if there else "fault",
                "" if there else f"Set {key} to the server's key.",
            )


def _needs_hub(trio: Trio) -> bool:
    pins = [
        pin
        for variant in trio.variants
        if isinstance(variant.source, Weights)
        for pin in (variant.source.base, variant.source.adapter)
        if pin
    ]
    return any(not pin.source.startswith("package:") and "/" in pin.source.strip("/")
               and not os.path.isabs(pin.source) for pin in pins)  # fmt: skip


def examine_port(port: int) -> DoctorCheck:
    """Check whether the page can be served at a port of this machine."""
    with socket.socket() as probe:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if _is_page(port):
                return DoctorCheck("Port", f"{port}: this page is served there already")
            advice = f"End what uses it, or serve elsewhere: python app.py --port {port + 1}."
            return DoctorCheck("Port", f"{port}: {error.strerror or error}", "fault", advice)
    return DoctorCheck("Port", f"{port} is free")


def _is_page(port: int) -> bool:
    import httpx

    try:
        page = httpx.get(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S / 3, trust_env=False)
    except (httpx.HTTPError, OSError):
        return False
    return "Triptych" in page.text


def examine_hub(needed: bool) -> DoctorCheck:
    """Check whether the Hub answers; `needed` is whether the trio comes from there."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        advice = "HF_HUB_OFFLINE is set: models of the Hub load only if they were fetched before."
        return DoctorCheck("Hub", "not asked", "note", advice)
    outcome = [f"nothing within {TIMEOUT_S:g} s"]
    thread = threading.Thread(target=_ask, args=(constants.ENDPOINT, outcome), daemon=True)
    thread.start()  # a thread, as looking up a name cannot be given a time limit
    thread.join(TIMEOUT_S)
    if outcome[0].isdecimal():
        return DoctorCheck("Hub", f"{constants.ENDPOINT} answers")
    advice = (
        "This trio comes from there. Check the network, a proxy (HTTPS_PROXY) and HF_ENDPOINT."
        if needed
        else "This trio does not need it; trios of the Hub's models do."
    )
    value = f"{constants.ENDPOINT} does not answer ({outcome[0]})"
    return DoctorCheck("Hub", value, "fault" if needed else "note", advice)


def _ask(address: str, outcome: list[str]) -> None:
    """Write the status of an answer, or the kind of error, into `outcome`."""
    import httpx

    try:
        outcome[0] = str(httpx.head(address, timeout=TIMEOUT_S).status_code)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        outcome[0] = type(error).__name__


def _token() -> DoctorCheck:
    from huggingface_hub import get_token

    if get_token():
        return DoctorCheck("Hub token", "there is one (its value is not shown)")
    return DoctorCheck("Hub token", "none, which only gated models of the Hub need")
