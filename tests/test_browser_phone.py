"""Every built page, opened in Chromium over http, on a dark phone; one visit serves all tests."""

import gzip
from urllib.parse import unquote, urlparse

import pytest
from built_pages import (
    CHAPTERS,
    EVERY,
    HTML,
    PHONE,
    barriers,
    needs_axe,
    open_page,
    overflow,
    unfold,
)

pytest_plugins = ["chromium"]
every_page = pytest.mark.parametrize("phone", EVERY, indirect=True)


@pytest.fixture(scope="module")
def phone(browser, host, request):
    """A page opened over http, at 390 pixels in dark colors."""
    settings = {"viewport": PHONE, "color_scheme": "dark", "has_touch": True}
    opened = open_page(browser, f"{host}/{request.param}", **settings)
    opened.host = host
    yield opened
    opened.page.context.close()


def weight(addresses):
    """Bytes of these files, compressed as by any web server."""
    files = {HTML / unquote(urlparse(address).path).lstrip("/") for address in addresses}
    text = (".html", ".css", ".js", ".svg")
    data = [(file.read_bytes(), file.suffix in text) for file in files if file.is_file()]
    return sum(len(gzip.compress(part, 6) if is_text else part) for part, is_text in data)


@every_page
def test_opens_over_http_with_at_most_two_megabytes(phone):
    """What a first visit transfers before the reader scrolls."""
    assert not phone.trouble
    assert all(address.startswith((phone.host, "data:")) for address in phone.loaded)
    assert weight(phone.loaded) < 2e6


@pytest.mark.parametrize("phone", [*CHAPTERS, "index.html"], indirect=True)
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


@every_page
def test_formulas_fit_a_phone_which_never_scrolls_sideways(phone):
    """In tables they may scroll with their table."""
    assert overflow(phone.page) <= 0
    unfold(phone.page)
    phone.page.evaluate(TWO_FRAMES)  # in which wide formulas are set smaller
    assert not phone.page.evaluate(TOO_WIDE)
    assert overflow(phone.page) <= 0
    phone.page.set_viewport_size({"width": 320, "height": 700})  # WCAG 1.4.10
    phone.page.evaluate(TWO_FRAMES)
    assert overflow(phone.page) <= 0


@every_page
@needs_axe
def test_is_rich_in_contrast_and_large_enough_to_touch(phone):
    rules = ["color-contrast", "scrollable-region-focusable", "target-size"]
    assert barriers(phone.page, rules) == []
