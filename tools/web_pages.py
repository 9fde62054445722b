"""A Sphinx extension: what Jupyter Book's pages lack for all their readers.

Solutions are folded by the browser itself, exercises are headings, pictures have a size and open
large, no script holds up the first text, each page has a description and a footer.
One setting, `book_repository` (or the environment variable BOOK_REPOSITORY), adds canonical
addresses, a sitemap and links to the repository and to Colab.
"""

import html
import os
import re
import struct
import subprocess
import time
import tomllib
from pathlib import Path
from urllib.parse import urlparse

from docutils import nodes
from fontTools import subset, ttLib
from sphinx_exercise.nodes import is_exercise_node, solution_node

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pages_url(repository: str) -> str:
    """Where GitHub publishes the pages of a repository."""
    _, owner, name = urlparse(repository.rstrip("/")).path.split("/")
    return f"https://{owner.lower()}.github.io/{name}/"


def configure(app, config) -> None:
    """Footer and, if the repository is known, everything that points at it."""
    options = config.html_theme_options
    options["extra_footer"] = footer()
    config.book_repository = config.book_repository or os.environ.get("BOOK_REPOSITORY", "")
    if not config.book_repository:
        return
    config.html_baseurl = pages_url(config.book_repository)
    options |= {
        "repository_url": config.book_repository,
        "repository_branch": "gh-pages",  # whose notebooks read and run without the book
        "path_to_docs": "_sources",
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }


def footer() -> str:
    """Version, date, licenses and how to cite, as HTML."""
    command = ["git", "log", "-1", "--format=%ct"]
    git = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or git.stdout.strip() or time.time())
    date = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    license_url = "https://creativecommons.org/licenses/by/4.0/"
    return (
        f"Version {PROJECT['version']} of {date}. "
        f'Prose and figures: <a href="{license_url}">CC BY 4.0</a>. Code: MIT license. '
        'How to cite: at the end of the <a href="%s">first page</a>.'
    )


# --- Exercises and their solutions ---


def name_solutions(app, doctree, docname) -> None:
    """Give solutions a short title, and take away ids that a page would have several times."""
    for node in doctree.findall(solution_node):
        title = node.pop(0).astext()
        node["summary"] = re.match(r"Solution to\s+Exercise [\w.]+", title)[0]
    for node in doctree.findall(lambda node: is_exercise_node(node) or "summary" in node):
        for section in node.findall(nodes.section):
            section["ids"] = []


def visit_solution(translator, node) -> None:
    """Open a fold that works by mouse, keyboard, touch, search and link, without a script."""
    tag = translator.starttag(node, "details", CLASS="admonition")
    title = html.escape(node["summary"])
    translator.body.append(f'{tag}<summary class="admonition-title">{title}</summary>\n')


def depart_solution(translator, node) -> None:
    """Close it."""
    translator.body.append("</details>\n")


# --- Pictures ---


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels."""
    return struct.unpack(">II", data[16:24])


def improve_picture(app, tag: str) -> str:
    """An `<img>` with its size, loaded when it is near, that opens large."""
    source = re.search(r'src="([^"]*_images/([^"]+\.png))"', tag)
    files = {name: path for path, name in app.builder.images.items()}
    if not source or source[2] not in files:
        return tag
    address, name = source.groups()
    data = Path(app.srcdir, files[name]).read_bytes()
    width, height = png_size(data)
    extra = f' width="{width}" height="{height}" loading="lazy" decoding="async"'
    picture = re.sub(r"\s*/?>$", extra + ">", re.sub(r' style="[^"]*"', "", tag))
    return f'<a class="large" href="{address}" title="Opens the picture alone">{picture}</a>'


# --- Every page ---


def improve_page(app, pagename, templatename, context, doctree) -> None:
    """Headings of exercises, pictures, and what the head of a page says about it."""
    first_page = context["pathto"]("index").removesuffix("#") + "#how-to-cite"
    context["theme_extra_footer"] = context.get("theme_extra_footer", "").replace("%s", first_page)
    if "body" in context:
        body = context["body"].replace(
            '<p class="admonition-title"><span class="caption-number">Exercise',
            '<p class="admonition-title" role="heading" aria-level="3">'
            '<span class="caption-number">Exercise',
        )
        body = re.sub(r"<img [^>]*>", lambda tag: improve_picture(app, tag[0]), body)
        if pagename == app.config.root_doc and app.config.html_baseurl:
            body = offer_files(body)
        context["body"] = body
    context["metatags"] = context.get("metatags", "") + head(app, pagename, context, doctree)


def offer_files(body: str) -> str:
    """Lead from the commands that write the book into one file to the files, once published."""
    for kind in ["pdf", "epub"]:
        command = f'<span class="pre">make</span> <span class="pre">{kind}</span>'
        link = f' (<a href="downloads/restricted-boltzmann-machines.{kind}">{kind.upper()}</a>)'
        body = re.sub(rf"(<code[^>]*>{command}</code>)", rf"\1{link}", body)
    return body


def head(app, pagename, context, doctree) -> str:
    """Description, social card and theme colors."""
    paragraphs = doctree.findall(nodes.paragraph) if doctree else []
    first = next((p.astext() for p in paragraphs), app.config.html_title)
    description = " ".join(re.sub(r"\s+", " ", first).split(" ")[:40])
    title = re.sub(r"<[^>]*>", "", context.get("title") or app.config.html_title)
    card = {"og:type": "book", "og:title": html.unescape(title), "og:description": description}
    card["og:site_name"] = app.config.html_title
    if base := app.config.html_baseurl:
        card |= {"og:url": f"{base}{pagename}.html", "og:image": f"{base}_static/filters.png"}
    tags = [f'<meta property="{key}" content="{html.escape(card[key])}">' for key in card]
    tags.append(f'<meta name="description" content="{html.escape(description)}">')
    for scheme, color in {"light": "#ffffff", "dark": "#121212"}.items():
        media = f"(prefers-color-scheme: {scheme})"
        tags.append(f'<meta name="theme-color" media="{media}" content="{color}">')
    return "\n".join(tags) + "\n"


# --- After the build ---

# The theme draws icons by a script of 1.5 MB that holds up the page; its style sheets can, too.
# It takes "" for a mode, with an error on the console, and shows dark pages light at first.
MENDS = [
    (r'<script src="[^"]*scripts/fontawesome\.js[^>]*></script>\n?', ""),
    (r'(getItem\("mode"\) \|\| )""', r'\1"auto"'),
    (
        r'(getItem\("theme"\) \|\| )""',
        r'\1(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")',
    ),
    # Names that differ from what is seen, which readers who speak to their computer say.
    (r'(<button class="[^"]*search-button-field[^>]*?)\s+aria-label="Search"', r"\1"),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    (r'role="doc-biblioentry"', 'role="listitem"'),  # deprecated, and no item of its list
    (r'\s*<meta name="viewport" content="width=device-width, initial-scale=1" ?/>', ""),
    (r'(href="https://colab\.[^"]*/_sources/index)\.md"', r'\1.ipynb"'),  # Colab opens notebooks
]
# No browser lets a page from the disk fetch another one, and excerpts are not to begin in code.
MENDS_OF_SEARCH = [
    (r"(else if \(showSearchSummary)\)", r'\1 && location.protocol !== "file:")'),
    (r'\[".headerlink", "script", "style"\]', '[".headerlink", "script", "style", "pre"]'),
]


def finish(app, problem) -> None:
    """Mend what the theme's templates leave no other way to mend, and write the sitemap."""
    if problem or app.builder.format != "html":
        return
    out = Path(app.outdir)
    files = [file for file in sorted(out.rglob("*.html")) if out / "_static" not in file.parents]
    for file in files:
        mend(file, MENDS)
    mend(out / "_static/searchtools.js", MENDS_OF_SEARCH)
    for unused in [out / "_static/scripts/fontawesome.js", *out.glob("_static/**/*.map")]:
        unused.unlink(missing_ok=True)
    keep_icons(out, used="".join(file.read_text(encoding="utf-8") for file in files))
    if base := app.config.html_baseurl:
        write_sitemap(out, [f"{base}{file.relative_to(out).as_posix()}" for file in files])


def mend(file: Path, mends: list[tuple[str, str]]) -> None:
    """Replace each pattern in a file."""
    text = file.read_text(encoding="utf-8")
    for pattern, replacement in mends:
        text = re.sub(pattern, replacement, text)
    file.write_text(text, encoding="utf-8")


def keep_icons(out: Path, used: str) -> None:
    """Leave in the font of icons those that pages show: 4 kB of 420."""
    names = set(re.findall(r"\bfa-[\w-]+", used))
    rule = r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\\w+"\}'

    def kept(icon):
        return icon[0] * bool(names & set(re.findall(r"fa-[\w-]+", icon[1])))

    sheets = sorted(out.glob("_static/**/*.css"))
    styles = "".join(re.sub(rule, kept, sheet.read_text(encoding="utf-8")) for sheet in sheets)
    shown = {int(code, 16) for code in re.findall(r'"\\(f\w{3})"', styles)}
    shown |= {ord(icon) for icon in re.findall("[\uf000-\uf8ff]", styles)}
    for path in out.glob("_static/vendor/fontawesome/webfonts/*.ttf"):
        font = ttLib.TTFont(path)
        subsetter = subset.Subsetter()
        there = font.getBestCmap().keys()  # browsers refuse a font without any character
        subsetter.populate(unicodes=shown & there or {min(there)})
        subsetter.subset(font)
        font.save(path)
    for sheet in sheets:
        mend(sheet, [(r'url\([^)]*/fa-[\w-]+\.woff2\) format\("woff2"\),', "")])
    for unused in out.glob("_static/vendor/fontawesome/webfonts/*.woff2"):
        unused.unlink()


def write_sitemap(out: Path, addresses: list[str]) -> None:
    """List the pages for search engines."""
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    listed = "".join(f"<url><loc>{address}</loc></url>\n" for address in addresses)
    sitemap = f'<?xml version="1.0"?>\n<urlset xmlns="{space}">\n{listed}</urlset>\n'
    (out / "sitemap.xml").write_text(sitemap, encoding="utf-8")


def setup(app) -> dict:
    """Register the above with Sphinx."""
    app.setup_extension("sphinx_exercise")
    app.add_config_value("book_repository", "", "env")
    app.add_node(solution_node, override=True, html=(visit_solution, depart_solution))
    app.connect("config-inited", configure)
    app.connect("doctree-resolved", name_solutions)
    app.connect("html-page-context", improve_page, priority=600)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
