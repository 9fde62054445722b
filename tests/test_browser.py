"""Every built page, read in Chromium as readers would: `make browser` builds them first.

Two visits serve all tests of a page, for loading is what takes time: from the disk, wide and light,
and over http, dark and on a phone. axe-core, which judges accessibility, is looked for in $AXE.
"""

import gzip
import os
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from built_pages import CHAPTERS, EVERY, HTML, PHONE, WIDE, open_page, unfold

pytest_plugins = ["chromium"]
AXE = HTML.parent / "axe/node_modules/axe-core/axe.min.js"
AXE = Path(os.environ.get("AXE", AXE))
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="axe-core, which judges, is not there")


def visits(name, pages):
    """A visit to each page; what one process has loaded, no other one loads."""
    each = [pytest.param(page, marks=pytest.mark.xdist_group(page)) for page in pages]
    return pytest.mark.parametrize(name, each, indirect=True)


@pytest.fixture(scope="module")
def wide(browser, request):
    """A page opened from the disk, at 1280 pixels in light colors."""
    address = (HTML / request.param).as_uri()
    opened = open_page(browser, address, viewport=WIDE, color_scheme="light")
    yield opened
    opened.page.context.close()


@pytest.fixture(scope="module")
def phone(browser, host, request):
    """A page opened over http, at 390 pixels in dark colors."""
    settings = {"viewport": PHONE, "color_scheme": "dark", "has_touch": True}
    opened = open_page(browser, f"{host}/{request.param}", **settings)
    opened.host = host
    yield opened
    opened.page.context.close()


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


# ---------------------------------------------------------------- from the disk, wide and light


@visits("wide", EVERY)
def test_opens_from_the_disk_without_errors_or_other_hosts(wide):
    assert not wide.trouble
    assert all(address.startswith(("file:", "data:")) for address in wide.loaded)


@visits("wide", EVERY)
def test_formulas_stand_and_can_be_heard(wide):
    formulas = wide.page.locator(".math").count()
    assert wide.page.locator("mjx-container").count() == formulas
    assert wide.page.locator("mjx-assistive-mml > math").count() == formulas
    assert wide.page.locator("mjx-merror, [data-mjx-error]").count() == 0


PICTURES = """[...document.images].filter((image) => image.checkVisibility()).map((image) => {
  image.loading = "eager";
  return image.decode().then(() => image.alt ? "" : image.src, () => image.src);
})"""


@visits("wide", EVERY)
def test_pictures_load_and_are_described(wide):
    assert not any(wide.page.evaluate(f"Promise.all({PICTURES})"))


@visits("wide", EVERY)
def test_has_one_first_heading_and_skips_no_level(wide):
    levels = wide.page.evaluate(
        "[...document.querySelectorAll('main :is(h1, h2, h3, h4, [role=heading])')]"
        ".filter((node) => node.checkVisibility())"
        ".map((node) => Number(node.ariaLevel ?? node.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@visits("wide", EVERY)
def test_never_scrolls_sideways(wide):
    unfold(wide.page)
    assert overflow(wide.page) <= 0


VIOLATIONS = """(tags) => axe
  .run({ exclude: ["mjx-container"] },
    { runOnly: tags, resultTypes: ["violations"], elementRef: false, preload: false })
  .then(({ violations }) => violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.html.slice(0, 200)} ${node.any[0]?.message ?? ""}`)))"""


@visits("wide", EVERY)
@needs_axe
def test_has_no_barrier_that_axe_can_find(wide):
    """WCAG 2.2, levels A and AA, with everything unfolded; formulas have their own test."""
    wide.page.add_script_tag(path=AXE)
    unfold(wide.page)
    everything = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    assert wide.page.evaluate(VIOLATIONS, everything) == []


# ---------------------------------------------------------------- over http, on a dark phone


def weight(addresses):
    """Bytes of these files, compressed as by any web server."""
    files = {HTML / unquote(urlparse(address).path).lstrip("/") for address in addresses}
    text = (".html", ".css", ".js", ".svg")
    data = [(file.read_bytes(), file.suffix in text) for file in files if file.is_file()]
    return sum(len(gzip.compress(part, 6) if is_text else part) for part, is_text in data)


@visits("phone", EVERY)
def test_opens_over_http_with_at_most_two_megabytes(phone):
    """What a first visit transfers before the reader scrolls."""
    assert not phone.trouble
    assert all(address.startswith((phone.host, "data:")) for address in phone.loaded)
    assert weight(phone.loaded) < 2e6


@visits("phone", [*CHAPTERS, "index.html"])
def test_figures_can_be_read_on_a_phone_and_open_large(phone):
    """Text of 10 points is 20 pixels of the file, so half the file's size shows it at 10.

    One figure is wider and has no text.
    """
    shown = phone.page.evaluate(
        "[...document.querySelectorAll('figure:not(#fig-free-patterns) a.large > img')].map((i) =>"
        " [i.parentNode.href, i.getBoundingClientRect().width / i.getAttribute('width')])"
    )
    assert shown
    assert not [(address, scale) for address, scale in shown if scale < 0.5]
    assert weight([shown[0][0]]) > 0


TOO_WIDE = """[...document.querySelectorAll("mjx-container")].filter((formula) => {
  const box = formula.hasAttribute("display") ? formula : formula.closest("p, li, dd, figcaption");
  return box && !box.closest("table") && formula.checkVisibility()
    && formula.scrollWidth > box.clientWidth + 1;
}).map((formula) => formula.querySelector("math").textContent)"""


TWO_FRAMES = "new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))"


@visits("phone", EVERY)
def test_formulas_fit_a_phone_which_never_scrolls_sideways(phone):
    """In tables they may scroll with their table."""
    assert overflow(phone.page) <= 0
    unfold(phone.page)
    phone.page.evaluate(TWO_FRAMES)  # in which wide formulas are set smaller
    assert not phone.page.evaluate(TOO_WIDE)
    assert overflow(phone.page) <= 0


@visits("phone", EVERY)
@needs_axe
def test_is_rich_in_contrast_and_large_enough_to_touch(phone):
    phone.page.add_script_tag(path=AXE)
    unfold(phone.page)
    rules = ["color-contrast", "scrollable-region-focusable", "target-size"]
    assert phone.page.evaluate(VIOLATIONS, rules) == []
