"""The built pages by keyboard, by touch, on paper and by search."""

import base64
import re
from pathlib import Path

import pytest
from built_pages import EVERY, HTML, PHONE, WIDE, lay_out, open_page

pytest_plugins = ["chromium"]
FIRST = "chapters/01_energy.html"
ANIMATED = "chapters/09_visualization.html"
DEMONSTRATIONS = "chapters/05_contrastive_divergence.html"


@pytest.fixture
def read(browser, request):
    """A fresh page from the disk, whose formulas these tests do without."""
    opened = []

    def read(name, formulas=False, **settings):
        settings = {"viewport": WIDE, **settings}
        path, mark, place = name.partition("#")
        address = (HTML / path).as_uri() + mark + place
        opened.append(open_page(browser, address, formulas, **settings))
        return opened[-1].page

    yield read
    for visit in opened:
        visit.page.context.close()


# ---------------------------------------------------------------- keyboard and touch


STOPS = """() => {
  window.stops = [];
  addEventListener("focusin", ({ target }) => stops.push({
    outline: getComputedStyle(target).outlineStyle,
    formula: target.closest("mjx-container") !== null,
    block: target.matches("pre, .cell_output, .pst-scrollable-table-container"),
  }));
}"""


def test_the_tab_key_visits_no_formula_and_can_be_seen(read):
    page = read(FIRST, formulas=True)
    page.evaluate(STOPS)
    for _ in range(8):
        for _ in range(25):
            page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    stops = page.evaluate("stops")
    assert 50 < len(stops) < 200
    assert not [stop for stop in stops if stop["formula"]]
    assert not [stop for stop in stops if stop["outline"] == "none"]


IN_VIEW = """() => {
  window.stops = [];
  addEventListener("focusin", ({ target }) => {
    const card = target.closest(".sd-card") ?? target; // a link as large as its card has no height
    const { left, right } = card.getBoundingClientRect(); // the browser scrolls to it afterwards
    stops.push({
      name: target.outerHTML.slice(0, 120),
      seen: right > 0 && left < innerWidth && card.checkVisibility({ visibilityProperty: true }),
    });
  });
}"""


@pytest.mark.parametrize("name", ["index.html", FIRST])
def test_the_tab_key_goes_through_what_a_phone_shows_and_back(read, name):
    page = read(name, viewport=PHONE)
    # This button comes and goes with scrolling, a moment later than the keys; and what is far from
    # the screen becomes a stop, if it scrolls sideways, a moment after they come there.
    page.add_style_tag(content="#pst-back-to-top { display: none !important; }")
    lay_out(page)
    page.evaluate(IN_VIEW)
    for _ in range(250):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    there = page.evaluate("stops.splice(0)")
    for _ in there:
        page.keyboard.press("Shift+Tab")
    back = page.evaluate("stops")
    assert 30 < len(there) < 200
    assert not [stop["name"] for stop in there + back if not stop["seen"]]
    assert [stop["name"] for stop in reversed(back)] == [stop["name"] for stop in there]


def test_a_figure_as_wide_as_a_phone_is_no_stop_of_the_tab_key(read):
    page = read(FIRST, viewport=PHONE)
    lay_out(page)
    assert page.locator(".cell_output:has(> figure)").count() > 4
    assert page.locator(".cell_output:has(> figure)[tabindex='0']").count() == 0


def test_code_that_scrolls_on_a_phone_says_so_and_can_be_reached(read):
    page = read(FIRST, viewport=PHONE)
    page.locator("pre").last.scroll_into_view_if_needed()
    blocks = page.evaluate(
        "[...document.querySelectorAll('.bd-article pre')]"
        ".filter((block) => block.scrollWidth > block.clientWidth + 1 && block.checkVisibility())"
        ".map((block) => [block.tabIndex, getComputedStyle(block).backgroundImage])"
    )
    assert blocks
    assert {stop for stop, _ in blocks} == {0}
    assert all(shadow.count("linear-gradient") == 4 for _, shadow in blocks)


@pytest.mark.parametrize("way", ["keyboard", "mouse", "tap"])
def test_a_solution_opens_by_its_title(read, way):
    page = read(FIRST, viewport=PHONE if way == "tap" else WIDE, has_touch=way == "tap")
    solutions = page.locator("details.solution")
    titles = solutions.locator("> summary")
    names = titles.all_text_contents()
    assert names == [f"Solution to Exercise 1.{n}" for n in range(1, len(names) + 1)]
    if way == "keyboard":
        titles.nth(1).focus()
        page.keyboard.press("Enter")
    else:
        {"mouse": titles.nth(1).click, "tap": titles.nth(1).tap}[way]()
    opened = page.evaluate("[...document.querySelectorAll('details.solution')].map((s) => s.open)")
    assert opened == [n == 1 for n in range(len(names))]


def test_a_link_into_a_folded_solution_opens_it(read):
    page = read(FIRST)
    page.evaluate("location.hash = '#fig-energy-slope'")
    # Pages scroll smoothly, so it comes into sight a while after its fold has opened.
    page.wait_for_function("""(() => {
      const target = document.querySelector("#fig-energy-slope");
      const { top } = target.getBoundingClientRect();
      return target.closest("details").open && 0 <= top && top < innerHeight;
    })()""")


TOP = "document.getElementById(location.hash.slice(1)).getBoundingClientRect().top"
LATE = "chapters/10_partition_function.html#exercises"


@pytest.mark.parametrize("name", ["index.html#use", LATE])
def test_a_link_from_elsewhere_lands_on_its_target(read, name):
    """Though what is above that is laid out, and its formulas set, afterwards."""
    page = read(name, formulas=True, viewport=PHONE)
    page.wait_for_timeout(500)
    assert 0 <= page.evaluate(TOP) < 200


def test_a_link_of_the_contents_lands_on_its_target(read):
    page = read("chapters/08_training.html", formulas=True)
    page.locator(".bd-sidebar-secondary a[href='#exercises']").click()
    page.wait_for_timeout(500)
    assert 0 <= page.evaluate(TOP) < 200


def test_figures_in_the_dark_stand_on_black(read):
    """On which their gray text has a contrast of 4.5."""
    page = read("chapters/08_training.html", color_scheme="dark")
    picture = page.locator(".cell_output figure img").first
    assert picture.evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(0, 0, 0)"


LETTERS = """[...document.querySelectorAll(".demo-live svg text")].map((text) => {
  const svg = text.ownerSVGElement;
  return parseFloat(getComputedStyle(text).fontSize) * svg.clientWidth / svg.viewBox.baseVal.width;
}).filter((size) => size > 0)"""


@pytest.mark.parametrize("name", [FIRST, "chapters/04_gibbs_chains.html"])
def test_letters_of_demonstrations_can_be_read_on_a_phone(read, name):
    page = read(name, viewport=PHONE)
    page.wait_for_timeout(300)
    assert min(page.evaluate(LETTERS)) >= 10


CONTROLS = "[...document.querySelectorAll('.demo-live :is(input, select)')]"
STATES = f"{CONTROLS}.map((node) => [node.value, node.checked])"
CHANGE = f"""{CONTROLS}.forEach((node) => {{
  if (node.type === "checkbox" || node.type === "radio") node.checked = !node.checked;
  else node.value = node.max ?? "7";
}})"""


@pytest.mark.parametrize(
    "name", ["index.html", FIRST, "chapters/04_gibbs_chains.html", DEMONSTRATIONS]
)
def test_controls_of_demonstrations_say_what_is_after_going_back(read, name):
    page = read(name)
    before = page.evaluate(STATES)
    page.evaluate(CHANGE)
    assert page.evaluate(STATES) != before
    page.goto((HTML / "genindex.html").as_uri())
    page.go_back()
    page.wait_for_selector(".demo-runs")
    assert page.evaluate(STATES) == before


def luminance(color):
    """Of CSS's `rgb(…)`, as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_button_that_leads_back_to_the_top_is_rich_in_contrast(read, scheme):
    """It appears on phones, while one scrolls up; so axe does not see it."""
    page = read(FIRST, color_scheme=scheme, viewport=PHONE)
    style = "getComputedStyle(document.querySelector('#pst-back-to-top'))"
    colors = page.evaluate(f"[{style}.color, {style}.backgroundColor]")
    dark, light = sorted(luminance(color) for color in colors)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_animation_moves_only_while_its_fold_is_open(read):
    page = read(ANIMATED)
    (data,) = page.evaluate(
        "[...document.images].map((image) => image.src).filter((src) => src.startsWith('data:'))"
        ".filter((src) => atob(src.split(',')[1]).includes('acTL'))"
    )
    assert data.startswith("data:image/png")
    fold = page.locator("details", has=page.locator("img[src^='data:image/png']"))
    assert not fold.locator("img").is_visible()
    fold.locator("> summary").focus()
    page.keyboard.press("Enter")
    assert fold.locator("img").is_visible()
    page.keyboard.press("Enter")
    assert not fold.locator("img").is_visible()


def test_no_other_picture_moves():
    moving = [path.name for path in (HTML / "_images").iterdir() if b"acTL" in path.read_bytes()]
    for path in (HTML / name for name in EVERY):
        for picture in re.findall(
            r'src="data:image/png;base64,([\w+/=\s]+)"', path.read_text("utf-8")
        ):
            moving += [path.name] * (b"acTL" in base64.b64decode(picture))
    assert moving == [Path(ANIMATED).name]


# ---------------------------------------------------------------- paper, dark, search


def test_paper_is_black_on_white_and_shows_what_is_folded(read):
    page = read(FIRST, color_scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    colors = page.evaluate(
        "[...document.querySelectorAll('.bd-article *')].filter((node) => node.checkVisibility())"
        ".map((node) => getComputedStyle(node)).map((s) => `${s.color} on ${s.backgroundColor}`)"
    )
    folded = page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert set(colors) == {"rgb(0, 0, 0) on rgba(0, 0, 0, 0)"}
    sheet = page.evaluate("getComputedStyle(document.documentElement).colorScheme")
    assert sheet == "light"  # the sheet itself, where backgrounds are printed
    assert folded == 0 < page.locator("details:not([open])").count()
    heading = page.locator(".bd-article h1")
    assert heading.is_visible() and heading.text_content().startswith("1. ")


@pytest.mark.parametrize("start", ["file", "http"])
def test_search_finds_free_energy(browser, host, start):
    """Browsers keep pages from the disk from reading others, so excerpts are for the web alone."""
    base = host if start == "http" else HTML.as_uri()
    opened = open_page(browser, f"{base}/search.html?q=free+energy")
    page = opened.page
    page.wait_for_selector("#search-results li a")
    assert "Free energy" in " ".join(page.locator("#search-results li a").all_text_contents())
    if start == "http":
        page.wait_for_selector("#search-results li p.context")
        assert "import" not in page.locator("#search-results li p.context").first.text_content()
    page.wait_for_timeout(500)
    assert not opened.trouble
    page.context.close()
