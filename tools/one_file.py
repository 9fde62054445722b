"""The book in one file: python tools/one_file.py pdf epub, once the pages are built.

Chromium, through Playwright, sets the formulas and prints; the PDF has bookmarks, links, page
numbers and text that can be selected, the EPUB formulas as MathML.
"""

import base64
import hashlib
import html
import os
import re
import shutil
import sys
import time
import tomllib
import uuid
import zipfile
from pathlib import Path
from urllib.parse import unquote, urldefrag

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "book"
NAME = "restricted-boltzmann-machines"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DATE = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((PAGES / "index.html").stat().st_mtime))
# Also left out: doors and map of the first page, and folded code, which only draws.
NOT_IN_BOOKS = (
    "script, link, button, .headerlink, .sd-summary-state-marker, .sd-container-fluid, #map, "
    "details.hide > summary"
)
FOLDED_CODE = "details.hide.above-input"


# --- One page of all pages ---


def contents() -> list[tuple[str, list[str]]]:
    """The parts of the book and their pages; the first part has no name."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [(part["caption"], [c["file"] for c in part["chapters"]]) for part in toc["parts"]]
    return [("", [toc["root"]]), *parts]


def anchor(page: str, label: str = "") -> str:
    """A label that is unique in the whole book, and short enough to be a file's name."""
    return re.sub(r"[^\w-]", "_", Path(page).name + (f"--{label}" if label else ""))


def chapter(page: str, known: set[str]):
    """The text of a page as a `<section>`, its links and pictures addressed from OUT."""
    path = PAGES / f"{page}.html"
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    section = soup.select_one("article.bd-article section, article.bd-article")
    for node in section.select(f"{NOT_IN_BOOKS}, {FOLDED_CODE}"):
        node.decompose()
    for link in section.select("a.large"):
        link.unwrap()
    for demonstration in section.select(".demo"):
        note = soup.new_tag("em")
        note.string = "Here this is a picture. In the book's web pages you can use it."
        demonstration.append(note)
    for node in section.select("[id]"):
        node["id"] = anchor(page, node["id"])
    for node in section.select("[src]"):
        node["src"] = picture_address(node["src"], page, path)
    for link in section.select("a[href]"):
        turn_inwards(link, path, known)
    section["id"] = anchor(page)
    section["class"] = "chapter"
    return section


def picture_address(source: str, page: str, path: Path) -> str:
    """Where a picture lies, from OUT; one that is written in the page becomes a file."""
    if source.startswith("data:image/png;base64,"):
        picture = base64.b64decode(source.partition(",")[2])
        name = f"{anchor(page)}-{hashlib.sha256(picture).hexdigest()[:12]}.png"
        (OUT / name).write_bytes(picture)
        return name
    return f"../html/{(path.parent / source).resolve().relative_to(PAGES)}"


def turn_inwards(link, path: Path, known: set[str]) -> None:
    """Let a link between pages lead to a place in the book, or take it away if there is none."""
    address, label = urldefrag(link["href"])
    if re.match(r"\w+:", address):
        return
    target = (path.parent / unquote(address)).resolve() if address else path
    name = target.with_suffix("").relative_to(PAGES).as_posix()
    if name in known:
        link["href"] = "#" + anchor(name, label)
    else:
        link.unwrap()


def one_page() -> Path:
    """Write all pages as one, with cover and contents."""
    known = {page for _, pages in contents() for page in pages}
    OUT.mkdir(exist_ok=True)
    body, listed = [], []
    for part, pages in contents():
        listed.append(f"<li class='part'>{part}</li>" if part else "")
        for page in pages:
            section = chapter(page, known)
            title = section.h1.get_text() if part else "To begin with"
            listed.append(f'<li><a href="#{anchor(page)}">{html.escape(title)}</a></li>')
            body.append(str(section))
    cover = (
        f'<section id="cover"><img src="../html/_static/logo.svg" alt="">'
        f"<p class='title'>{CONFIG['title']}</p><p>{CONFIG['author']}</p>"
        f"<p>Version {PROJECT['version']}, {DATE[:10]}</p>"
        "<p>Prose and figures: CC BY 4.0. Code: MIT license.</p>"
        "<p>Code that only draws is left out; the notebooks have it.</p></section>"
    )
    text = (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{CONFIG['title']}</title>"
        '<link rel="stylesheet" href="../html/_static/pygments.css">'
        '<link rel="stylesheet" href="../../tools/one_file.css">'
        "<script>MathJax = {options: {processHtmlClass: 'math'}}</script>"
        '<script src="../html/_static/mathjax/tex-chtml-used.js"></script>'
        f'</head><body class="mathjax_ignore">{cover}'
        f'<nav id="contents"><p class="title">Contents</p><ol>{"".join(listed)}</ol></nav>'
        f"{''.join(body)}</body></html>"
    )
    path = OUT / "book.html"
    path.write_text(text, encoding="utf-8")
    return path


# --- PDF ---

NUMBER_CONTENTS = """(numbers) => document.querySelectorAll("#contents a").forEach((link) => {
  link.dataset.page = numbers[link.hash.slice(1)];
})"""


def page_numbers(pdf: bytes) -> dict[str, int]:
    """On which page each destination of Chromium's PDF lies."""
    objects = dict(re.findall(rb"^(\d+) 0 obj\n(.*?)^endobj", pdf, re.MULTILINE | re.DOTALL))
    order = []

    def walk(number):
        if b"/Type /Pages" in objects[number]:
            for kid in re.findall(
                rb"(\d+) 0 R", re.search(rb"/Kids \[(.*?)\]", objects[number], re.DOTALL)[1]
            ):
                walk(kid)
        else:
            order.append(number)

    root = re.search(rb"/Root (\d+) 0 R", pdf)[1]
    walk(re.search(rb"/Pages (\d+) 0 R", objects[root])[1])
    pattern = rb"/(\S+) \[(\d+) 0 R /XYZ"
    found = {name.decode(): order.index(page) + 1 for name, page in re.findall(pattern, pdf)}
    return {
        re.sub(r"#(\w\w)", lambda code: chr(int(code[1], 16)), name): n for name, n in found.items()
    }


def write_pdf(page) -> None:
    """Print twice: the first print tells on which page each chapter begins."""
    settings = {"prefer_css_page_size": True, "outline": True, "tagged": True}
    first = page.pdf(**settings)
    page.evaluate(NUMBER_CONTENTS, page_numbers(first))
    page.pdf(path=OUT / f"{NAME}.pdf", **settings)


# --- EPUB ---

# Formulas as MathML, pages as XHTML without what belongs to screens.
AS_XHTML = """() => {
  for (const formula of document.querySelectorAll("mjx-container")) {
    const math = formula.querySelector("mjx-assistive-mml > math");
    formula.replaceWith(math);
  }
  const unwanted = ["loading", "decoding", "align", "aria-level", "role", "target", "title"];
  for (const node of document.querySelectorAll(".chapter *"))
    for (const { name } of [...node.attributes])
      if (unwanted.includes(name) || name.startsWith("data-")) node.removeAttribute(name);
  const pictures = [...document.images].map((image) => image.getAttribute("src"));
  for (const image of document.images)
    image.setAttribute("src", image.getAttribute("src").split("/").at(-1));
  const chapters = [...document.querySelectorAll(".chapter")].map((section) => ({
    id: section.id,
    title: section.querySelector("h1").textContent,
    xhtml: new XMLSerializer().serializeToString(section),
    headings: [...section.querySelectorAll("section > h2")].map((heading) => (
      [heading.parentElement.id, heading.textContent])),
  }));
  return { chapters, pictures };
}"""
XHTML = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="en">
<head><title>{title}</title><link rel="stylesheet" href="book.css"/></head>
<body>{body}</body></html>
"""
CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="book/package.opf" media-type="application/oebps-package+xml"/>
</rootfiles></container>
"""
PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{uuid}</dc:identifier>
<dc:title>{title}</dc:title><dc:language>en</dc:language><dc:creator>{author}</dc:creator>
<dc:date>{day}</dc:date><dc:rights>Prose and figures: CC BY 4.0. Code: MIT license.</dc:rights>
<meta property="dcterms:modified">{date}</meta>
<meta property="schema:accessMode">textual</meta><meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta>
<meta property="schema:accessibilityFeature">MathML</meta>
<meta property="schema:accessibilityFeature">tableOfContents</meta>
<meta property="schema:accessibilityHazard">none</meta>
</metadata>
<manifest>{items}</manifest>
<spine>{spine}</spine>
</package>
"""
MEDIA = {
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".css": "text/css",
    ".xhtml": "application/xhtml+xml",
}


def write_epub(page) -> None:
    """A file for each page, their pictures, and a table of contents."""
    got = page.evaluate(AS_XHTML)
    files, listed = {}, []
    for chapter in got["chapters"]:
        body = re.sub(
            r'href="#([^"]+)"',
            lambda link: f'href="{link[1].split("--")[0]}.xhtml#{link[1]}"',
            chapter["xhtml"],
        )
        name, title = f"{chapter['id']}.xhtml", html.escape(chapter["title"])
        files[name] = XHTML.format(title=title, body=body)
        below = "".join(
            f'<li><a href="{name}#{label}">{html.escape(text)}</a></li>'
            for label, text in chapter["headings"]
        )
        listed.append(f'<li><a href="{name}">{title}</a>{below and f"<ol>{below}</ol>"}</li>')
    nav = f'<nav epub:type="toc" id="toc"><h1>Contents</h1><ol>{"".join(listed)}</ol></nav>'
    files = {"nav.xhtml": XHTML.format(title="Contents", body=nav), **files}
    pygments = (PAGES / "_static/pygments.css").read_text(encoding="utf-8")
    light = "\n".join(line for line in pygments.splitlines() if 'theme="dark"' not in line)
    light = light.replace('html[data-theme="light"] ', "")
    ours = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    files["book.css"] = light + re.sub(r"^@page.*?^}$", "", ours, flags=re.MULTILINE | re.DOTALL)
    data = {name: text.encode() for name, text in files.items()}
    data |= {Path(address).name: (OUT / address).read_bytes() for address in got["pictures"]}
    with zipfile.ZipFile(OUT / f"{NAME}.epub", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("book/package.opf", package(files, data))
        for name, content in data.items():
            book.writestr(f"book/{name}", content)


def package(files: dict, data: dict) -> str:
    """What the EPUB holds and in which order it is read."""
    items, spine = [], []
    for number, name in enumerate(data):
        properties = ["nav"] if name == "nav.xhtml" else []
        properties += ["mathml"] if "<math" in files.get(name, "") else []
        properties += ["svg"] if "<svg" in files.get(name, "") else []
        properties += ["cover-image"] if name == "logo.svg" else []
        extra = f' properties="{" ".join(properties)}"' if properties else ""
        media = MEDIA[Path(name).suffix]
        items.append(f'<item id="i{number}" href="{name}" media-type="{media}"{extra}/>')
        if name.endswith(".xhtml"):
            spine.append(f'<itemref idref="i{number}"/>')
    return PACKAGE.format(
        uuid=uuid.uuid5(uuid.NAMESPACE_URL, f"{NAME}-{PROJECT['version']}"),
        title=CONFIG["title"],
        author=CONFIG["author"],
        day=DATE[:10],
        date=DATE,
        items="".join(items),
        spine="".join(spine),
    )


def main() -> None:
    """Let Chromium set the formulas of the whole book, and write it."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page()
        page.set_default_timeout(900_000)
        page.goto(one_page().as_uri())
        page.evaluate("MathJax.startup.promise.then(() => 1)")
        page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
        for kind in sys.argv[1:]:
            {"pdf": write_pdf, "epub": write_epub}[kind](page)
            print(OUT / f"{NAME}.{kind}", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
