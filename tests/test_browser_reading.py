"""The built pages by keyboard, on paper, by search, and in their files: links, head, downloads."""

import base64
import json
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import pytest
from built_pages import CHAPTERS, EVERY, HTML, PHONE, WIDE, open_page

pytest_plugins = ["chromium"]
API, FIRST = "chapters/appendix_api.html", "chapters/01_energy.html"
ANIMATED = "chapters/09_visualization.html"


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


# ---------------------------------------------------------------- files


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
        for link in set(page.links):
            address, anchor = urldefrag(link)
            if urlparse(address).scheme:
                continue
            target = (path.parent / unquote(urlparse(address).path)).resolve() if address else path
            known = parsed[target].ids if target in parsed else {anchor}
            if not target.exists() or (anchor and unquote(anchor) not in known):
                broken.append((path.name, link))
    assert not broken
    assert not [(path.name, page.repeated) for path, page in parsed.items() if page.repeated]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_name_in_code_leads_once_to_its_entry_in_the_api(name):
    page, entries = (HTML / name).read_text(encoding="utf-8"), Links(HTML / API).ids
    named = re.findall(
        r'<a class="api[^"]*" href="appendix_api.html#([^"]+)"><code(.*?)</code>', page
    )
    places = [place for place, _ in named]
    assert set(places) <= entries and len(places) == len(set(places)) > 0
    for place, code in named:
        shown = re.sub(r"<[^>]*>|\(.*", "", code.partition(">")[2])
        assert place.endswith(f".{shown}")


@pytest.mark.parametrize("name", CHAPTERS)
def test_exercises_are_headings(name):
    page = (HTML / name).read_text(encoding="utf-8")
    titles = re.findall(
        r'<p class="admonition-title"([^>]*)>\s*<span class="caption-number">', page
    )
    exercises = [title for title in titles if 'role="heading"' in title]
    assert len(exercises) == page.count('class="exercise admonition"')


@pytest.mark.parametrize("name", EVERY)
def test_no_link_is_called_by_a_year_alone(name):
    page = (HTML / name).read_text(encoding="utf-8")
    links = re.findall(r'<a class="reference internal"[^>]*>(.*?)</a>', page, re.DOTALL)
    names = [re.sub(r"<[^>]*>", "", link) for link in links]
    assert not [name for name in names if re.fullmatch(r"\W*\d{4}[a-z]?\W*", name)]


@pytest.mark.parametrize("name", EVERY)
def test_a_page_says_what_it_is_and_whose(name):
    head, _, body = (HTML / name).read_text(encoding="utf-8").partition("</head>")
    assert head.count('name="viewport"') == 1
    for once in ('name="description"', 'property="og:title"'):
        assert head.count(once) == 1, once
    assert re.search(r"Version [\d.]+ of \d{4}-\d\d-\d\d", body)
    assert all(words in body for words in ("CC BY 4.0", "MIT license", "How to cite"))
    assert "fontawesome.js" not in head  # which held up the first text


def test_the_first_page_can_be_downloaded_as_a_notebook():
    front = (HTML / "index.html").read_text(encoding="utf-8")
    assert 'href="_sources/index.ipynb"' in front
    assert json.loads((HTML / "_sources/index.ipynb").read_text(encoding="utf-8"))["cells"]


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
