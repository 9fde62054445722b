"""What the pages promise, checked in their sources: nothing is executed or built here.

nbval and the build execute the chapters; these tests see to it that they have something to check.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
NUMBERED = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
PAGES = [ROOT / "index.md", *sorted((ROOT / "chapters").glob("*.md")), *NOTEBOOKS]


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


every_notebook, every_chapter, every_page = each(NOTEBOOKS), each(NUMBERED), each(PAGES)


def cells(path, cell_type):
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == cell_type]


def tags(cell):
    return cell.metadata.get("tags", [])


def checked_cells(path):
    return [cell for cell in cells(path, "code") if "nbval-check-output" in tags(cell)]


def outputs(path):
    return [output for cell in cells(path, "code") for output in cell.outputs]


def printed_lines(path):
    """What readers see in text, line by line."""
    for output in outputs(path):
        text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
        yield from (line.rstrip() for line in text.splitlines())


def has_picture(cell):
    return any(
        media_type.startswith("image/")
        for output in cell.outputs
        for media_type in output.get("data", {})
    )


def text(path):
    """The source of a page, without outputs."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def functions(path):
    """Functions that the code cells define; methods may share a name. Magics are no Python."""
    for cell in cells(path, "code"):
        code = re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE)
        nodes = list(ast.walk(ast.parse(code)))
        methods = {m for node in nodes if isinstance(node, ast.ClassDef) for m in node.body}
        yield from (n.name for n in nodes if isinstance(n, ast.FunctionDef) and n not in methods)


@every_notebook
def test_runs_on_any_python_kernel(path):
    """A kernel's name from the author's machine would stop the notebook on the reader's."""
    assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"


@every_notebook
def test_titles_of_directives_hold_no_code(path):
    """A backtick in the line that opens a fence ends it, and what follows is lost."""
    opened = [line for cell in cells(path, "markdown") for line in cell.source.splitlines()]
    assert not [line for line in opened if line.startswith("```{") and "`" in line[3:]]


@every_notebook
def test_was_executed_once_from_top_to_bottom(path):
    """Outputs of cells run out of order may not come back; the downloads are these files."""
    counts = [cell.execution_count for cell in cells(path, "code") if cell.source]
    assert counts == list(range(1, len(counts) + 1))


@every_notebook
def test_checked_cells_have_something_to_check(path):
    """nbval passes a checked cell without stored output."""
    assert all(cell.outputs for cell in checked_cells(path))


@every_notebook
def test_checked_cells_are_marked_where_readers_do_not_see_it(path):
    """By the tag `nbval-check-output`; the comment means the same, but stands on the page."""
    assert not [cell for cell in cells(path, "code") if "NBVAL_CHECK_OUTPUT" in cell.source]


@every_chapter
def test_shows_numbers_and_not_booleans(path):
    """`True` tells a reader less than the number that was compared."""
    booleans = [line for line in printed_lines(path) if line.endswith(("True", "False"))]
    assert len(booleans) <= 5, booleans


@every_chapter
def test_measures_its_claims(path):
    """Prose without numbers that a cell prints again is only an assertion."""
    assert len(checked_cells(path)) >= 3


@every_notebook
def test_outputs_hold_no_errors_and_no_logs(path):
    assert not [output for output in outputs(path) if output.output_type == "error"]
    assert not [output for output in outputs(path) if output.get("name") == "stderr"]


@every_notebook
def test_pictures_have_alt_text_and_caption(path):
    """For readers who cannot see them, and for those who only skim them."""
    for cell in filter(has_picture, cells(path, "code")):
        page = cell.metadata.get("mystnb", {})
        assert page.get("image", {}).get("alt"), cell.source
        assert page.get("figure", {}).get("caption"), cell.source


@every_chapter
def test_exercises_have_solutions(path):
    """A reader who is stuck should find a way on, and the build executes it."""
    exercises = re.findall(r"^[`:]{3,}\{exercise\}.*\n:label: (\S+)", text(path), re.MULTILINE)
    solutions = re.findall(r"^[`:]{3,}\{solution-start\} (\S+)", text(path), re.MULTILINE)
    assert len(exercises) >= 3
    assert sorted(exercises) == sorted(solutions)


def test_no_function_is_defined_in_two_chapters():
    """What two chapters need belongs in the package."""
    defined = Counter(name for path in NOTEBOOKS for name in set(functions(path)))
    assert not [name for name, chapters in defined.items() if chapters > 1]


@every_page
def test_holds_no_path_of_the_machine_it_was_written_on(path):
    local = r"""(?:[\s"'`(=:]|\\n)(?://)?/(?:home|root|tmp|work|Users)/"""
    assert not re.search(local, path.read_text(encoding="utf-8"))


@every_page
def test_cites_what_the_bibliography_holds(path):
    bibliography = (ROOT / "references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    cited = ",".join(re.findall(r"\{cite:\w+\}`([^`]+)`", text(path))).split(",")
    assert {key.strip() for key in cited} - {""} <= known


def test_contents_and_pages_agree():
    """Every page of the contents exists, and every chapter is in the contents."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = {chapter["file"] for part in contents["parts"] for chapter in part["chapters"]}
    assert listed | {contents["root"]} == {
        path.relative_to(ROOT).with_suffix("").as_posix() for path in PAGES
    }
