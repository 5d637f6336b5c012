"""What the page shows, as its tests ask for it in a browser."""

from __future__ import annotations

from importlib.resources import files


def text(page, role) -> str:
    return page.text_content(f"#column-{role} .pane-text")


def state(page, role) -> str:
    return page.get_attribute(f"#column-{role} .pane", "data-state")


def line_includes(line, part) -> str:
    return f"document.querySelector('#{line} .line').textContent.includes('{part}')"


def shown(part, times) -> str:
    tokens = "document.querySelector('#column-base .pane-tokens').textContent"
    return f"{tokens}.split('{part}').length === {times + 1}"


def wait_done(page) -> None:
    page.wait_for_selector("#status .line[data-kind=done]", timeout=20_000)


def serious(page) -> list[str]:
    """What axe-core finds serious or critical, each with its first node."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    violations = page.evaluate("axe.run().then(result => result.violations)")
    grave = [
        violation for violation in violations if violation["impact"] in ("serious", "critical")
    ]
    return [f"{violation['id']}: {violation['nodes'][0]['html']}" for violation in grave]
