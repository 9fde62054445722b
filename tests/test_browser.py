"""Every built page, opened in Chromium from the disk, wide and light: `make browser` builds them.

One visit serves all tests of a page, for loading is what takes time.
"""

from itertools import pairwise

import pytest
from built_pages import EVERY, HTML, WIDE, barriers, needs_axe, open_page, overflow, unfold

pytest_plugins = ["chromium"]
every_page = pytest.mark.parametrize("wide", EVERY, indirect=True)


@pytest.fixture(scope="module")
def wide(browser, request):
    """A page opened from the disk, at 1280 pixels in light colors."""
    address = (HTML / request.param).as_uri()
    opened = open_page(browser, address, viewport=WIDE, color_scheme="light")
    yield opened
    opened.page.context.close()


@every_page
def test_opens_from_the_disk_without_errors_or_other_hosts(wide):
    assert not wide.trouble
    assert all(address.startswith(("file:", "data:")) for address in wide.loaded)


@every_page
def test_formulas_stand_and_can_be_heard(wide):
    formulas = wide.page.locator(".math").count()
    assert wide.page.locator("mjx-container").count() == formulas
    assert wide.page.locator("mjx-assistive-mml > math").count() == formulas
    assert wide.page.locator("mjx-merror, [data-mjx-error]").count() == 0


PICTURES = """[...document.images].filter((image) => image.checkVisibility()).map((image) => {
  image.loading = "eager";
  return image.decode().then(() => image.alt ? "" : image.src, () => image.src);
})"""


@every_page
def test_pictures_load_and_are_described(wide):
    assert not any(wide.page.evaluate(f"Promise.all({PICTURES})"))


@every_page
def test_has_one_first_heading_and_skips_no_level(wide):
    levels = wide.page.evaluate(
        "[...document.querySelectorAll('main :is(h1, h2, h3, h4, [role=heading])')]"
        ".filter((node) => node.checkVisibility())"
        ".map((node) => Number(node.ariaLevel ?? node.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@every_page
def test_never_scrolls_sideways(wide):
    unfold(wide.page)
    assert overflow(wide.page) <= 0


@every_page
@needs_axe
def test_has_no_barrier_that_axe_can_find(wide):
    """WCAG 2.2, levels A and AA, with everything unfolded; formulas have their own test."""
    everything = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    assert barriers(wide.page, everything) == []
