"""The files of the built pages: their links, what their heads say, and what can be downloaded."""

import json
import re
import runpy
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import pytest
from built_pages import CHAPTERS, EVERY, HTML

API = "chapters/appendix_api.html"


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
    chapter = json.loads(book.read("rbm-book/chapters/01_energy.ipynb"))
    assert f'"../{wheel.name}' in "".join(chapter["cells"][0]["source"])  # from where it runs


def test_once_published_the_first_page_offers_the_book_in_one_file():
    offer = runpy.run_path(str(HTML.parent.parent / "tools" / "web_pages.py"))["offer_files"]
    front = offer((HTML / "index.html").read_text(encoding="utf-8"))
    assert re.findall(r"downloads/[\w-]+\.(pdf|epub)", front) == ["pdf", "epub"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_downloads_read_without_myst(name):
    notebook = nbformat.read(HTML / "_sources" / name.replace(".html", ".ipynb"), as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert not re.findall(r"\{[\w:.-]+\}`|^[`:]{3,}\{.*|^\([\w-]+\)=|^\$\$ \(|<script", text, re.M)


def test_the_book_in_one_file_says_where_its_pictures_are_demonstrations():
    one_page = runpy.run_path(str(HTML.parent.parent / "tools" / "one_file.py"))["one_page"]
    book = one_page().read_text(encoding="utf-8")
    assert book.count("Here this is a picture.") == book.count('class="demo"') == 7
