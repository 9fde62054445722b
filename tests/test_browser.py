"""The built pages, read in Chromium as readers would: `make browser` builds them first.

One visit serves all tests of a page, for loading is what takes time. axe-core, which judges
accessibility, is looked for in $AXE; .ci/run installs it.
"""

import gzip
import os
import re
import shutil
import threading
import zipfile
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build" / "html"
AXE = Path(os.environ.get("AXE", ROOT / "_build/axe/node_modules/axe-core/axe.min.js"))
EVERY = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html"))
EVERY = [name for name in EVERY if not name.startswith(("_static/", "_modules/"))]
CHAPTERS = [name for name in EVERY if re.match(r"chapters/(\d\d|appendix_source)", name)]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

every_page = pytest.mark.parametrize("visit", EVERY, indirect=True)
every_chapter = pytest.mark.parametrize("visit", CHAPTERS, indirect=True)
first_chapter = pytest.mark.parametrize("visit", CHAPTERS[:1], indirect=True)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium")
        )
        yield browser
        browser.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing of each request."""


@pytest.fixture(scope="module")
def host():
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def open_page(browser, address, **settings):
    """The page once its formulas stand, and what went wrong on the way."""
    page = browser.new_context(**settings).new_page()
    trouble, loaded = [], []
    page.on("console", lambda m: m.type in ("error", "warning") and trouble.append(m.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("requestfailed", lambda request: trouble.append(f"failed: {request.url}"))
    page.on("response", lambda r: r.status >= 400 and trouble.append(f"{r.status}: {r.url}"))
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(address)
    page.evaluate("window.MathJax?.startup?.promise.then(() => 1)")
    return SimpleNamespace(page=page, trouble=trouble, loaded=loaded)


@pytest.fixture(scope="module")
def visit(browser, request):
    """A page opened from the disk, at 1280 pixels in light colors."""
    address = (HTML / request.param).as_uri()
    opened = open_page(browser, address, viewport=WIDE, color_scheme="light")
    yield opened
    opened.page.context.close()


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")


PICTURES = """[...document.images].filter((image) => image.checkVisibility()).map((image) => {
  image.loading = "eager";
  return image.decode().then(() => image.alt ? "" : image.src, () => image.src);
})"""


@every_page
def test_opens_from_the_disk_without_errors_or_other_hosts(visit):
    assert not visit.trouble
    assert all(address.startswith(("file:", "data:")) for address in visit.loaded)


@every_page
def test_formulas_stand_and_can_be_heard(visit):
    formulas = visit.page.locator(".math").count()
    assert visit.page.locator("mjx-container").count() == formulas
    assert visit.page.locator("mjx-assistive-mml > math").count() == formulas
    assert visit.page.locator("mjx-merror, [data-mjx-error]").count() == 0


@every_page
def test_pictures_load_and_are_described(visit):
    assert not any(visit.page.evaluate(f"Promise.all({PICTURES})"))


@every_page
def test_has_one_first_heading_and_skips_no_level(visit):
    levels = visit.page.evaluate(
        "[...document.querySelectorAll('main :is(h1, h2, h3, h4, [role=heading])')]"
        ".filter((node) => node.checkVisibility())"
        ".map((node) => Number(node.ariaLevel ?? node.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@every_page
def test_never_scrolls_sideways(visit):
    unfold(visit.page)
    for size in (PHONE, WIDE):
        visit.page.set_viewport_size(size)
        assert overflow(visit.page) <= 0, size


def weight(addresses):
    """Bytes of these files, compressed as by any web server."""
    files = {HTML / urlparse(address).path.lstrip("/") for address in addresses}
    text = (".html", ".css", ".js", ".svg")
    data = [(file.read_bytes(), file.suffix in text) for file in files if file.is_file()]
    return sum(len(gzip.compress(part, 6) if is_text else part) for part, is_text in data)


@pytest.mark.parametrize("name", EVERY)
def test_opens_over_http_on_a_dark_phone_with_at_most_two_megabytes(browser, host, name):
    """What a first visit transfers before the reader scrolls."""
    settings = {"viewport": PHONE, "color_scheme": "dark", "has_touch": True}
    opened = open_page(browser, f"{host}/{name}", **settings)
    assert not opened.trouble
    assert all(address.startswith((host, "data:")) for address in opened.loaded)
    assert overflow(opened.page) <= 0
    assert weight(opened.loaded) < 2e6
    opened.page.context.close()


TOO_WIDE = """[...document.querySelectorAll("mjx-container")].filter((formula) => {
  const box = formula.hasAttribute("display") ? formula : formula.closest("p, li, dd, figcaption");
  return box && !box.closest("table") && formula.checkVisibility()
    && formula.scrollWidth > box.clientWidth + 1;
}).map((formula) => formula.querySelector("math").textContent)"""


@every_page
def test_formulas_fit_a_phone(visit):
    """In tables they may scroll with their table."""
    visit.page.set_viewport_size(PHONE)
    unfold(visit.page)
    visit.page.wait_for_timeout(200)  # in which they are set smaller
    cut = visit.page.evaluate(TOO_WIDE)
    visit.page.set_viewport_size(WIDE)
    assert not cut


VIOLATIONS = """(tags) => axe
  .run({ exclude: ["mjx-container"] }, { runOnly: tags, resultTypes: ["violations"] })
  .then(({ violations }) => violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.html.slice(0, 200)} ${node.any[0]?.message ?? ""}`)))"""


@every_page
@pytest.mark.skipif(not AXE.exists(), reason="axe-core, which judges accessibility, is not there")
def test_has_no_barrier_that_axe_can_find(visit):
    """WCAG 2.2, levels A and AA, with everything unfolded; formulas have their own test."""
    page = visit.page
    page.add_script_tag(path=AXE)
    unfold(page)
    everything = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    assert page.evaluate(VIOLATIONS, everything) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(500)  # colors change slowly
    assert page.evaluate(VIOLATIONS, ["color-contrast"]) == []
    page.set_viewport_size(PHONE)
    assert page.evaluate(VIOLATIONS, ["scrollable-region-focusable", "target-size"]) == []
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(WIDE)


@first_chapter
def test_the_tab_key_visits_no_formula_and_can_be_seen(visit):
    """Solutions are folded again by a reload."""
    visit.page.reload()
    stops = []
    for _ in range(400):
        visit.page.keyboard.press("Tab")
        stop = visit.page.evaluate(
            "((node) => [node.tagName, node.id, getComputedStyle(node).outlineStyle,"
            " !!node.closest('mjx-container')])(document.activeElement)"
        )
        if stop[0] == "BODY":
            break
        stops.append(stop)
    assert 50 < len(stops) < 200
    assert not [stop for stop in stops if stop[3]]
    assert not [stop for stop in stops if stop[2] == "none"]


@first_chapter
def test_a_solution_opens_by_keyboard_by_tap_and_by_a_link_into_it(visit):
    page, solutions = visit.page, visit.page.locator("details.solution")
    page.reload()
    names = solutions.locator("> summary").all_text_contents()
    assert names == [f"Solution to Exercise 1.{n}" for n in range(1, len(names) + 1)]
    solutions.nth(0).locator("> summary").focus()
    page.keyboard.press("Enter")
    solutions.nth(1).locator("> summary").click()
    page.evaluate("location.hash = '#fig-energy-slope'")
    page.wait_for_function("document.querySelector('#fig-energy-slope').closest('details').open")
    opened = [solutions.nth(n).get_attribute("open") is not None for n in range(len(names))]
    assert opened[0] and opened[1] and opened[-1] and not opened[2]


@every_chapter
def test_figures_can_be_read_on_a_phone_and_open_large(visit):
    """Text of 10 points is 20 pixels of the file, so half the file's size shows it at 10.

    One figure is wider and has no text.
    """
    visit.page.set_viewport_size(PHONE)
    shown = visit.page.evaluate(
        "[...document.querySelectorAll('figure:not(#fig-free-patterns) img')].map((i) =>"
        " [i.closest('a').href, i.getBoundingClientRect().width / i.getAttribute('width')])"
    )
    visit.page.set_viewport_size(WIDE)
    assert shown
    assert not [(address, scale) for address, scale in shown if scale < 0.48]
    assert all(Path(unquote(urlparse(address).path)).exists() for address, _ in shown)


@first_chapter
def test_paper_is_black_on_white_and_shows_what_is_folded(visit):
    page = visit.page
    page.reload()
    page.emulate_media(color_scheme="dark", media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    colors = page.evaluate(
        "[...document.querySelectorAll('.bd-article *')].filter((node) => node.checkVisibility())"
        ".map((node) => getComputedStyle(node)).map((s) => `${s.color} on ${s.backgroundColor}`)"
    )
    folded = page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    again = page.locator("details:not([open])").count()
    page.emulate_media(color_scheme="light", media="screen")
    assert set(colors) == {"rgb(0, 0, 0) on rgba(0, 0, 0, 0)"}
    assert folded == 0 < again


@pytest.mark.parametrize("start", ["file", "http"])
def test_search_finds_free_energy(browser, host, start):
    base = host if start == "http" else HTML.as_uri()
    page = browser.new_context().new_page()
    page.goto(f"{base}/search.html?q=free+energy")
    page.wait_for_selector("#search-results li a", timeout=20000)
    assert "Free energy" in " ".join(page.locator("#search-results li a").all_text_contents())
    page.context.close()


class Links(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.repeated = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if name := attributes.get("id"):
            (self.repeated.append if name in self.ids else self.ids.add)(name)
        self.links += [attributes[key] for key in ("href", "src") if attributes.get(key)]


def test_links_lead_to_files_and_anchors_that_exist():
    pages = [HTML / name for name in EVERY] + sorted(HTML.glob("_modules/**/*.html"))
    parsed = {path.resolve(): Links(path) for path in pages}
    broken = []
    for path, page in parsed.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            if urlparse(address).scheme:
                continue
            target = (path.parent / unquote(urlparse(address).path)).resolve() if address else path
            known = parsed[target].ids if target in parsed else {anchor}
            if not target.exists() or (anchor and unquote(anchor) not in known):
                broken.append((path.name, link))
    assert not broken
    assert not [(path.name, page.repeated) for path, page in parsed.items() if page.repeated]


def test_downloads_hold_what_the_first_page_says():
    front = (HTML / "index.html").read_text(encoding="utf-8")
    (wheel,) = (HTML / "downloads").glob("*.whl")
    assert front.count(wheel.name) >= 3  # the link, and both commands
    assert "rbm_tutorial/mnist_rbm500.npz" in zipfile.ZipFile(wheel).namelist()
    book = zipfile.ZipFile(HTML / "downloads" / "rbm-book.zip")
    names = {Path(name).name for name in book.namelist()}
    assert names >= {wheel.name, "LICENSE", *(Path(name).stem + ".ipynb" for name in CHAPTERS)}


@pytest.mark.parametrize("name", CHAPTERS)
def test_downloads_read_without_myst(name):
    notebook = nbformat.read(HTML / "_sources" / name.replace(".html", ".ipynb"), as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert not re.findall(r"\{[\w:.-]+\}`|^[`:]{3,}\{.*|^\([\w-]+\)=|^\$\$ \(|<script", text, re.M)
