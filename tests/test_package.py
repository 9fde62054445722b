"""What the repository promises around the code: imports, metadata, the README."""

import ast
import graphlib
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import rbm_tutorial

ROOT = Path(__file__).parent.parent


def run_python(code, directory=None, **environment):
    command, environment = [sys.executable, "-c", code], {**os.environ, **environment}
    result = subprocess.run(command, capture_output=True, text=True, cwd=directory, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.slow
def test_import_loads_neither_data_sets_nor_probability_nor_plots():
    """Keras itself imports matplotlib where it finds it; this package must not add to that."""
    code = "import sys, keras; before = set(sys.modules); import rbm_tutorial; "
    loaded = set(run_python(code + "print(*(set(sys.modules) - before))").split())
    assert "rbm_tutorial" in loaded
    assert "rbm_tutorial.plots" not in loaded
    packages = {name.split(".")[0] for name in loaded}
    assert not packages & {"tensorflow_datasets", "tensorflow_probability", "matplotlib"}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_the_long_scripts_still_find_what_they_import(folder):
    scripts = [str(path) for path in sorted((ROOT / folder).glob("*.py"))]
    assert len(scripts) > 4
    run_python(f"import runpy\nfor path in {scripts}: runpy.run_path(path)", ROOT / folder)


WITHOUT_TENSORFLOW = """
import sys
for name in ("tensorflow", "tensorflow_datasets", "tf_keras", "importlib_resources", "sklearn"):
    sys.modules[name] = None  # importing them now fails
import numpy as np
from rbm_tutorial import RBM, ContrastiveDivergence, bars_and_stripes, likelihood, load_mnist
from rbm_tutorial import load_pretrained_rbm, plots, train_rbm

x = bars_and_stripes(3)[0]
rbm = RBM(6, seed=0)
rbm.adapt(x)
model = ContrastiveDivergence(rbm, persistent_chains=5, centered=True)
model.compile("sgd")
model.fit(x, epochs=3, verbose=0)
log_z = likelihood.exact_log_partition(rbm)
assert abs(likelihood.ais_log_partition(rbm, 100, 100).log_z - log_z) < 0.1
assert np.isfinite(likelihood.pseudo_log_likelihood(rbm, x)).all()
assert likelihood.chain_diagnostics(rbm, x[:4], 10).free_energies.shape == (10, 4)
assert load_pretrained_rbm().forward(np.zeros((1, 784), "float32")).shape == (1, 500)
plots.filters(rbm)
for needs_tensorflow in (load_mnist, lambda: train_rbm(rbm, x), lambda: rbm.cd_update(x)):
    try:
        needs_tensorflow()
    except (ImportError, NotImplementedError) as error:
        print(error)
"""


@pytest.mark.slow
def test_runs_on_jax_without_tensorflow():
    """With no more than the packages that the README asks for there."""
    errors = run_python(WITHOUT_TENSORFLOW, KERAS_BACKEND="jax", MPLBACKEND="agg").splitlines()
    assert len(errors) == 3
    assert all("TensorFlow" in error for error in errors)


@pytest.mark.slow
def test_a_page_that_fails_is_named_and_the_others_are_executed(tmp_path):
    """What `make book` and `make notebooks` run: no failure may pass for a book."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name, code in {"bad": "1 / 0", "good": "print(6 * 7)"}.items():
        notebook = new_notebook(cells=[new_code_cell(code)], metadata=kernel)
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    untouched = (tmp_path / "bad.ipynb").read_text(encoding="utf-8")
    script = ROOT / "tools" / "execute.py"
    command = [sys.executable, script, "--in-place", "bad.ipynb", "good.ipynb"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert "Failed: bad.ipynb" in result.stderr
    printed = re.sub(r"\x1b\[[\d;]*m", "", result.stdout)
    for line in (r"1 of 2 .*bad", "ZeroDivisionError: division by zero", r"2 of 2 .*good"):
        assert re.search(line, printed), printed
    assert (tmp_path / "bad.ipynb").read_text(encoding="utf-8") == untouched
    (cell,) = nbformat.read(tmp_path / "good.ipynb", as_version=4).cells
    assert cell.outputs[0].text == "42\n"
    assert list(tmp_path.glob("_build/.jupyter_cache/executed/*/base.ipynb"))


def imported_by(path):
    """The modules of the package that a module of it imports, and the names that it takes there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "rbm_tutorial":
            names = [alias.name for alias in node.names]
            module = node.module.removeprefix("rbm_tutorial").strip(".")
            yield from [(module, names)] if module else [(name, [name]) for name in names]


def pictured():
    """Of ARCHITECTURE.md: {module: its box}, and {box: the boxes to which arrows lead, in turn}."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    boxes = re.findall(r'^ +(\w+)\["(.*)"\]$', text, re.MULTILINE)
    box_of = {}
    for box, label in boxes:  # names, divided by commas, and what they are for
        names = re.split("(?<!,)<br>", label)[0].replace("<br>", " ")
        box_of.update(dict.fromkeys(names.split(", "), box))
    above = {box: set() for box, _ in boxes}
    for starts, ends in re.findall(r"^ +([\w &]+) --> ([\w &]+)$", text, re.MULTILINE):
        for start in starts.split(" & "):
            above[start] |= set(ends.split(" & "))
    for _ in above:
        for ends in above.values():
            ends |= {end for box in set(ends) for end in above[box]}
    (beside,) = re.findall(r"^Beside these stand .*$", text, re.MULTILINE)
    return box_of, above, set(re.findall(r"`(\w+)`", beside))


def test_imports_run_one_way_as_in_the_picture_of_the_layers():
    box_of, above, beside = pictured()
    modules = {path.stem: path for path in (ROOT / "rbm_tutorial").glob("[a-z]*.py")}
    assert {*box_of, *beside} == set(modules)
    imports = {name: list(imported_by(path)) for name, path in modules.items()}
    below = {name: [module for module, _ in found] for name, found in imports.items()}
    graphlib.TopologicalSorter(below).prepare()  # raises an error about a circle
    for name, found in imports.items():
        for module, names in found:
            assert not any(each.startswith("_") for each in names), (name, names)
            if {name, module} <= box_of.keys() and box_of[name] != box_of[module]:
                assert box_of[module] in above[box_of[name]], f"{name} imports {module}"


def test_exports_what_it_names():
    assert all(hasattr(rbm_tutorial, name) for name in rbm_tutorial.__all__)


def test_every_imported_package_is_declared():
    distributions = metadata.packages_distributions()
    declared = {
        re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-")
        for requirement in metadata.requires("rbm_tutorial")
        if "extra ==" not in requirement
    } | {"jax", "scikit-learn"}  # extras; modules that import them say so
    for path in (ROOT / "rbm_tutorial").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            known = {*sys.stdlib_module_names, "rbm_tutorial"}
            for name in {name.split(".")[0] for name in names} - known:
                providers = {d.lower().replace("_", "-") for d in distributions[name]}
                assert providers & declared, f"{path.name} imports {name}"


def test_the_lock_file_names_no_package_index():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert "index-url" not in lock


def test_the_pythons_that_are_promised_are_the_same_everywhere():
    promised = ["3.11", "3.12", "3.13"]
    names = metadata.metadata("rbm_tutorial").get_all("Classifier")
    assert [n.split(" :: ")[-1] for n in names if " :: Python :: 3." in n] == promised
    sentence = f"Python {', '.join(promised[:-1])} or {promised[-1]}"
    for page in ("README.md", "CONTRIBUTING.md", "Makefile"):
        assert sentence in (ROOT / page).read_text(encoding="utf-8"), page
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert f"--python-version {promised[0]} " in lock


def test_versions_agree():
    version = metadata.version("rbm_tutorial")
    assert rbm_tutorial.__version__ == version
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


CHAPTERS_ALONE = """
import ast, json, os, sys
from pathlib import Path

sys.path = [path for path in sys.path if Path(path).resolve() != Path({root!r})]
import rbm_tutorial
assert Path(rbm_tutorial.__file__).is_relative_to({installed!r})
READ = ("load_mnist", "load_pretrained_rbm", "stored_result", "stored_samples")
HERE = ("rbm_tutorial", "chapters", "experiments", "benchmarks", "_assets", "tests")
FOLDERS = [Path({root!r}) / name for name in HERE]


def refuse_the_repository(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
        path = Path(arguments[0]).resolve()
        assert not any(path.is_relative_to(folder) for folder in FOLDERS), path


sys.addaudithook(refuse_the_repository)
for chapter in sorted(Path({folder!r}).glob("*/*.ipynb")):
    os.chdir(chapter.parent)
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    nodes, names = list(ast.walk(ast.parse("\\n".join(code)))), dict()
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not any(f"{{name}}/" in node.value for name in ("..", *HERE)), node.value
    if chapter.stem in {whole!r}:
        exec("\\n".join(code), {{"__name__": "__main__"}})
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            exec(ast.unparse(node), names)
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in READ:
            if all(isinstance(argument, ast.Constant) for argument in node.args):
                print(ast.unparse(node), type(eval(ast.unparse(node), names)).__name__)
    assert os.listdir() == [chapter.name]
    print(chapter.name)
"""


def notebook_of(page):
    """The code of a MyST page as a notebook."""
    from nbformat.v4 import new_code_cell, new_notebook

    fences = r"```\{code-cell\} python\n---\n.*?\n---\n(.*?)```"
    cells = re.findall(fences, page.read_text(encoding="utf-8"), re.DOTALL)
    assert cells
    return new_notebook(cells=[new_code_cell(code) for code in cells])


@pytest.mark.slow
def test_chapters_run_from_a_download_beside_an_installed_wheel(tmp_path, monkeypatch):
    """Each alone in a folder: it imports and reads what it needs, and opens nothing that is here.

    The front page and the first chapter run from end to end.
    """
    import nbformat
    from flit_core.buildapi import build_wheel

    installed, chapters = tmp_path / "installed", sorted((ROOT / "chapters").glob("*.ipynb"))
    monkeypatch.chdir(ROOT)
    wheel = tmp_path / build_wheel(str(tmp_path))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-compile", "--target", installed, wheel], check=True)
    files = [path for path in (ROOT / "rbm_tutorial").rglob("*.*") if path.suffix != ".pyc"]
    assert all((installed / path.relative_to(ROOT)).exists() for path in files)
    for chapter in chapters:
        folder = tmp_path / "downloads" / chapter.stem
        folder.mkdir(parents=True)
        shutil.copy(chapter, folder)
    (tmp_path / "downloads" / "index").mkdir()
    first_page = ROOT / "index.md"
    nbformat.write(notebook_of(first_page), tmp_path / "downloads" / "index" / "index.ipynb")
    places = {"root": ROOT, "installed": installed, "folder": tmp_path / "downloads"}
    places = {name: str(path) for name, path in places.items()}
    code = CHAPTERS_ALONE.format(**places, whole=("01_energy", "index"))
    printed = run_python(code, tmp_path, PYTHONPATH=str(installed), MPLBACKEND="agg").splitlines()
    done = [line for line in printed if line.endswith(".ipynb")]
    assert done == [*(chapter.name for chapter in chapters), "index.ipynb"]
    assert "load_mnist() tuple" in printed
    assert "stored_result('bench_Intel_Xeon_2_threads') dict" in printed


@pytest.mark.slow
def test_the_lines_of_the_readme_run(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) == 10
    code = "import matplotlib; matplotlib.use('agg')\n" + code
    assert "nats an image" in run_python(code, tmp_path)
    assert (tmp_path / "filters.png").exists()


def test_the_readme_names_commands_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in ("README.md", "CONTRIBUTING.md", "index.md"):
        for target in re.findall(r"\bmake ([a-z]+)\b", (ROOT / page).read_text(encoding="utf-8")):
            made = re.search(rf"^(\w+ )*{target}( \w+)*:", makefile, re.MULTILINE)
            assert made or target == "sure", target


def test_every_test_that_the_appendix_names_exists():
    """Each defect of the source is guarded by a test; a renamed one would leave a dead promise."""
    import nbformat

    notebook = nbformat.read(ROOT / "chapters" / "appendix_source.ipynb", as_version=4)
    named = set(re.findall(r"`(test_\w+)`", "\n".join(cell.source for cell in notebook.cells)))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    assert len(named) > 20
    assert named <= set(re.findall(r"def (test_\w+)", tests))


def written_signatures():
    """What the API page writes out: (module, name, names of arguments)."""
    module, found = None, []
    for line in (ROOT / "chapters" / "appendix_api.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"\.\. automodule:: (\S+)", line):
            module = heading[1]
        if entry := re.match(r"\.\. autoclass:: (\w+)\((.+)\)$", line):
            arguments = entry[2].replace("Bernoulli()", "Bernoulli").split(",")
            names = [argument.split("=")[0].strip(" *") for argument in arguments]
            found.append((module, entry[1], names))
    return found


@pytest.mark.parametrize("module, name, arguments", written_signatures())
def test_signatures_on_the_api_page_are_those_of_the_code(module, name, arguments):
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    assert [each for each in signature.parameters if each != "kwargs"] == [
        each for each in arguments if each != "kwargs"
    ]


def test_signatures_are_found():
    assert len(written_signatures()) > 10
