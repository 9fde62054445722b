"""The built pages, and how the tests in a browser open them and judge them.

axe-core, which judges accessibility, is looked for in $AXE.
"""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

HTML = Path(__file__).parent.parent / "_build" / "html"
EVERY = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html"))
EVERY = [name for name in EVERY if not name.startswith(("_static/", "_modules/"))]
CHAPTERS = [name for name in EVERY if re.match(r"chapters/(\d\d|appendix_source)", name)]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
AXE = Path(os.environ.get("AXE", HTML.parent / "axe/node_modules/axe-core/axe.min.js"))
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="axe-core, which judges, is not there")
VIOLATIONS = """(tags) => axe
  .run({ exclude: ["mjx-container"] },
    { runOnly: tags, resultTypes: ["violations"], elementRef: false, preload: false })
  .then(({ violations }) => violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.html.slice(0, 200)} ${node.any[0]?.message ?? ""}`)))"""


def open_page(browser, address, formulas=True, **settings):
    """The page once its formulas stand, or without them, and what went wrong on the way."""
    context = browser.new_context(**settings)
    page = context.new_page()
    page.set_default_timeout(60_000)
    trouble, loaded = [], []
    page.on("console", lambda m: m.type in ("error", "warning") and trouble.append(m.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("requestfailed", lambda request: trouble.append(f"failed: {request.url}"))
    page.on("response", lambda r: r.status >= 400 and trouble.append(f"{r.status}: {r.url}"))
    page.on("request", lambda request: loaded.append(request.url))
    if not formulas:
        context.route("**/mathjax/**", lambda route: route.fulfill(body=""))
    page.goto(address)
    if formulas:
        page.evaluate("window.MathJax?.startup?.promise.then(() => 1)")
    return SimpleNamespace(page=page, trouble=trouble, loaded=loaded)


def lay_out(page):
    """Give what is far from the screen its size, too, and let the page's code see it."""
    page.add_style_tag(content="* { content-visibility: visible !important; }")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def unfold(page):
    """Open what is folded, and lay out all."""
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    lay_out(page)


def barriers(page, rules):
    """What axe finds by these rules or tags, with everything unfolded; not in formulas."""
    page.add_script_tag(path=AXE)
    unfold(page)
    return page.evaluate(VIOLATIONS, rules)


def overflow(page):
    """By how many pixels a page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")
