"""A Sphinx extension: downloads that run after a plain install and read in plain Jupyter.

The build puts into `downloads/` the wheel of the package and a zip of wheel, chapters and scripts.
The notebooks in it, and behind the download buttons, are written out: MyST's citations, numbers,
captions and exercises become plain Markdown, which every Jupyter shows.
"""

import base64
import os
import re
import shutil
import zipfile
from pathlib import Path

import nbformat
from flit_core.wheel import make_wheel_in
from pybtex.database import parse_file
from pybtex.style.formatting.plain import Style

ROOT = Path(__file__).parent.parent
BOOK_ZIP = "rbm-book.zip"
README = """{title}

Python 3.11, 3.12 or 3.13 is needed. In this folder:

    python -m pip install "./{wheel}[scikit-learn]" jupyterlab tensorboard
    jupyter lab chapters

The package brings the digits, a trained machine, and the results of the runs that are too long for
a chapter. experiments/ and benchmarks/ hold the scripts that made these.
"""


class Labels:
    """What the book's labels stand for: titles and numbers, and citations of the bibliography."""

    def __init__(self, env, bibliography):
        self.titles = {name: title.astext() for name, title in env.titles.items()}
        self.sections = {
            label: title for label, (_, _, title) in env.get_domain("std").labels.items()
        }
        self.numbers = {}
        names = {"displaymath": "({})", "figure": "Fig. {}", "table": "Table {}"}
        for kinds in env.toc_fignumbers.values():
            for kind, numbers in kinds.items():
                form = names.get(kind, kind.capitalize() + " {}")
                for label, number in numbers.items():
                    text = form.format(".".join(map(str, number)))
                    self.numbers[label.removeprefix("equation-")] = text
        self.bibliography = bibliography

    def cite(self, keys: str, inside: bool) -> str:
        """Hinton (2002) or, inside parentheses, Hinton, 2002; several are joined."""
        form = "{}, {}" if inside else "{} ({})"
        entries = [self.bibliography.entries[key.strip()] for key in keys.split(",")]
        cited = [form.format(authors(entry), entry.fields["year"]) for entry in entries]
        return f"({'; '.join(cited)})" if inside else " and ".join(cited)

    def refer(self, text: str) -> str:
        """The number or title of a label, or the words that the author chose for it."""
        words, label = re.fullmatch(r"(?:(.*?)\s*<)?([^<>]+)>?", text, re.DOTALL).groups()
        label = label.strip()
        number = self.numbers.get(label)
        if words:
            return words.replace("%s", number or "").replace("{number}", number or "")
        return number or self.sections[label]

    def document(self, text: str, page: str) -> str:
        """The title of a chapter, or the author's words for it."""
        words, name = re.fullmatch(r"(?:(.*?)\s*<)?([^<>]+)>?", text, re.DOTALL).groups()
        return words or self.titles[(Path(page).parent / name.strip().lstrip("/")).as_posix()]


def authors(entry) -> str:
    """Family names: one, two, or the first of many."""
    names = [" ".join(person.last_names) for person in entry.persons["author"]]
    names = [re.sub(r"\\\\.|[{}]", "", name) for name in names]
    return names[0] + " et al." if len(names) > 2 else " and ".join(names)


def plain(text: str, page: str, labels: Labels) -> str:
    """Markdown in which nothing is left that only MyST understands."""
    roles = {
        "cite:t": lambda keys: labels.cite(keys, inside=False),
        "cite:p": lambda keys: labels.cite(keys, inside=True),
        "eq": labels.refer,
        "ref": labels.refer,
        "numref": labels.refer,
        "doc": lambda name: labels.document(name, page),
        "math": lambda formula: f"${formula}$",
    }

    def resolve(role):
        return roles.get(role[1], lambda words: words)(role[2])

    def embed(picture):
        data = base64.b64encode((ROOT / "_assets" / picture[1]).read_bytes()).decode()
        return f"(data:image/svg+xml;base64,{data})"

    text = re.sub(r"^\(([\w-]+)\)=\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^</?(?:div|link|script)\b.*\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"\((?:\.\./)?_assets/([\w/.]+\.svg)\)", embed, text)
    text = re.sub(r"\{([\w:]+)\}`([^`]+)`", resolve, text)
    text = re.sub(
        r"^\$\$\n(.*?)\n\$\$ \(([\w-]+)\)$",
        lambda math: f"$$\n{math[1]}\n\\tag{{{labels.numbers[math[2]][1:-1]}}}\n$$",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    text = re.sub(r"\[([^\]]+)\]\((?:#[^)]*|[^):]*(?:api|bibliography)\.md[^)]*)\)", r"\1", text)
    return directives(text, labels)


def directives(text: str, labels: Labels) -> str:
    """Exercises, solutions and folds, their fences replaced by headings."""
    heads = {
        "exercise": lambda title, label: f"### {labels.numbers[label]}: {title}\n\n",
        "solution-start": lambda label, _: f"#### Solution to {labels.numbers[label]}\n",
        **dict.fromkeys(["solution-end", "grid", "raw"], lambda *_: ""),
    }

    def written_out(match):
        _, kind, argument, options, body = match.groups()
        label = re.search(r"^:label: (\S+)$", options, re.MULTILINE)
        head = heads.get(kind, lambda title, _: f"**{title}**\n\n" * bool(title))
        return head(argument.strip(), label and label[1]) + directives(body, labels)

    fence = r"^([`:]{3,})\{([\w-]+)\}([^\n]*)\n((?::[\w-]+:[^\n]*\n)*)(.*?)^\1$"
    return re.sub(fence, written_out, text + "\n", flags=re.MULTILINE | re.DOTALL).strip()


def references(text: str, labels: Labels) -> str:
    """A list of what is cited, or nothing."""
    cited = ",".join(re.findall(r"\{cite:\w\}`([^`]+)`", text)).split(",")
    keys = sorted({key.strip() for key in cited} - {""})
    entries = Style().format_entries([labels.bibliography.entries[key] for key in keys])
    lines = sorted(entry.text.render_as("text").replace("\\url ", "") for entry in entries)
    return "## References\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def readable(notebook, page: str, labels: Labels, install: str):
    """The notebook, written out; `install` is the line of pip that it needs."""
    title = labels.titles["index"]
    offered = "which its first page offers"
    head = f"*A page of “{title}”. It needs the package of the book, {offered}:* `{install}`"
    cells = [nbformat.v4.new_markdown_cell(head)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if source := plain(cell.source, page, labels):
                cells.append(nbformat.v4.new_markdown_cell(source))
            continue
        if {"hide-input", "remove-cell"} & set(cell.metadata.get("tags", [])):
            cell.metadata.jupyter = {"source_hidden": True}
        cells.append(cell)
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure:
            caption = plain(figure["caption"], page, labels)
            number = labels.numbers.get(figure.get("name"), "")
            cells.append(nbformat.v4.new_markdown_cell(f"*{number}.* {caption}"))
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    if listed := references("\n".join(sources), labels):
        cells.append(nbformat.v4.new_markdown_cell(listed))
    written = nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)
    return nbformat.validator.normalize(written)[1]


def install_line(app, wheel: str) -> str:
    """The command that installs the package: from the published book, or from the file."""
    if base := app.config.html_baseurl:
        return f'%pip install "rbm_tutorial[scikit-learn] @ {base}downloads/{wheel}" tensorboard'
    return f'%pip install "./{wheel}[scikit-learn]" tensorboard'


def offer_index_as_notebook(app, pagename, templatename, context, doctree) -> None:
    """Jupyter does not run the first page's Markdown."""
    if pagename == app.config.root_doc:
        context["ipynb_source"] = f"{pagename}.ipynb"


def build_wheel(root: Path, folder: Path) -> Path:
    """The wheel of the package, the same bytes whenever it is built: its files bear no date."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "315532800")  # 1980, where the dates of zips begin
    return make_wheel_in(root / "pyproject.toml", folder).file


def write_downloads(app, problem) -> None:
    """Wheel, zip, and readable notebooks behind the buttons."""
    if problem or app.builder.format != "html":
        return
    out, source = Path(app.outdir), Path(app.srcdir)
    folder = out / "downloads"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    wheel = build_wheel(ROOT, folder)
    labels = Labels(app.env, parse_file(source / "references.bib"))
    install = install_line(app, wheel.name)
    for page in sorted(app.env.found_docs):
        path = Path(app.env.doc2path(page))
        if page == app.config.root_doc:
            path = out.parent / "jupyter_execute" / f"{page}.ipynb"
        if path.suffix == ".ipynb":
            notebook = nbformat.read(path, as_version=4)
            nbformat.write(
                readable(notebook, page, labels, install), out / "_sources" / f"{page}.ipynb"
            )
    with zipfile.ZipFile(folder / BOOK_ZIP, "w", zipfile.ZIP_DEFLATED) as book:
        readme = README.format(title=app.config.html_title, wheel=wheel.name)
        book.writestr("rbm-book/README.txt", readme)
        book.write(wheel, f"rbm-book/{wheel.name}")
        book.write(source / "LICENSE", "rbm-book/LICENSE")
        for path in sorted((out / "_sources" / "chapters").glob("*.ipynb")):
            text = path.read_text(encoding="utf-8")  # the wheel lies one folder above
            text = text.replace(f'"./{wheel.name}', f'"../{wheel.name}')
            book.writestr(f"rbm-book/chapters/{path.name}", text)
        notation = (source / "chapters" / "appendix_notation.md").read_text(encoding="utf-8")
        notation = plain(notation, "chapters/appendix_notation", labels)
        book.writestr("rbm-book/chapters/appendix_notation.md", notation)
        for path in sorted([*source.glob("experiments/*.*"), *source.glob("benchmarks/*.*")]):
            book.write(path, Path("rbm-book") / path.relative_to(source))


def setup(app) -> dict:
    """Register the above with Sphinx."""
    app.connect("html-page-context", offer_index_as_notebook, priority=400)
    app.connect("build-finished", write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
