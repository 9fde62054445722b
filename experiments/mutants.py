"""Tests that can fail: one small change of a module at a time, and whether any test notices.

    [KERAS_BACKEND=jax] python experiments/mutants.py [MODULE …] [--each N] [--seed N] [--to FILE]
        [--recorded FILE]

An operator, comparison, constant or condition becomes another one, or a call or an error goes;
defaults of arguments, decorators and wording stay. First all tests run once, to learn which of them
run which line, and for how long. Of all changes of a module N are drawn. For each the tests of its
lines run, the quickest first, until one fails or SECONDS of them have passed, in a fork of this
process, which imports the libraries once. A test fails that takes ten times as long as all of its
file did, and two minutes. One that fails without the change, too, does not count. What runs only
in processes that tests start is met by the tests of the module's name alone.

Prints each change that no test noticed, to be read one by one: some change nothing that anybody
could see. FILE gets them as JSON, with how many changes there are and were tried. What FILE says
already is tried again only where it was not noticed: on another backend, or by new tests. What the
tests run is read from the file of `--recorded`, if it is there, else written to it.
"""

import argparse
import ast
import itertools
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed

import coverage
import keras
import numpy as np  # noqa: F401 (imported once, for all forks)
import pytest
import scipy.stats  # noqa: F401

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf  # noqa: F401

ROOT = pathlib.Path(__file__).parent.parent
LEFT = ("plots", "timings")  # what is drawn is looked at
ON_JAX = ("blocks", "threefry")  # loaded by no other backend
ABOUT_PAGES = ("test_browser", "test_pages")
IMPORT = "import"  # fails: of the package, or tests have other names
SECONDS = 120  # of tests for a change
OTHER = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def changes(tree):
    """Of a module, for each change: a node of it, what is done, and what takes its place."""
    left = _left(tree)
    for node in ast.walk(tree):
        if node in left:
            continue
        if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in OTHER:
            yield node, "other operator", _with(node, op=OTHER[type(node.op)]())
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
            operators = [OTHER[type(node.ops[0])](), *node.ops[1:]]
            yield node, "other comparison", _with(node, ops=operators)
        elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            yield node, f"{value} for {node.value}", ast.Constant(value)
        elif isinstance(node, ast.UnaryOp):
            yield node, "no sign", node.operand
        elif isinstance(node, (ast.If, ast.IfExp)):
            yield node.test, "condition turned round", ast.UnaryOp(ast.Not(), node.test)
        elif _may_go(node):
            yield node, "statement dropped", ast.Pass()


def _left(tree):
    """Nodes that no test should ask for: defaults of arguments, sizes of caches, wording."""
    left = set()
    for node in ast.walk(tree):
        given = [*getattr(node, "decorator_list", [])]
        if isinstance(node, ast.arguments):
            given += [*node.defaults, *filter(None, node.kw_defaults)]
        if isinstance(node, ast.JoinedStr):
            given.append(node)
        left |= {part for each in given for part in ast.walk(each)}
    return left


def _with(node, **fields):
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def _may_go(node):
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)  # a docstring is none
    return isinstance(node, ast.Raise)


def mutants(source):
    """Of a source text, for each change: first and last line, what is done, the changed text."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]
    for node, what, other in changes(ast.parse(source)):
        text = ast.unparse(other)
        text = f"({text})" if isinstance(other, ast.expr) else text
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        changed = source.encode()[:start] + text.encode() + source.encode()[end:]
        yield node.lineno, node.end_lineno, what, changed.decode()


class Recorder:
    """A plugin of pytest: which lines of the package each test runs, and how long."""

    def __init__(self, coverage):
        self.coverage, self.seconds, self.failed = coverage, {}, set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        yield
        self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.outcome != "passed":
            self.failed.add(report.nodeid)

    def result(self, package):
        data = self.coverage.get_data()
        lines = {
            path.stem: {
                line: [test for test in tests if test]
                for line, tests in data.contexts_by_lineno(str(path)).items()
            }
            for path in package.glob("*.py")
        }
        passed = {test: s for test, s in self.seconds.items() if test not in self.failed}
        return {"lines": lines, "seconds": passed}


class Watch:
    """A plugin of pytest: a test that takes much longer ends the process; which failed is told."""

    def __init__(self, seconds, told):
        self.told, self.of_file = told, {}
        for test, of_test in seconds.items():  # what a file shares is made in any of its tests
            file = test.split("::")[0]
            self.of_file[file] = self.of_file.get(file, 0) + of_test

    def pytest_runtest_setup(self, item):
        self.told.write_text(item.nodeid, encoding="utf-8")
        signal.alarm(120 + round(10 * self.of_file.get(item.nodeid.split("::")[0], 0)))


def exit_code(work, run):
    """What a process of its own, in a copy of package and tests, ends with; it says nothing."""
    process = os.fork()
    if process:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if code == -signal.SIGKILL:
            raise RuntimeError("A process was killed from outside, perhaps for memory.")
        return code
    code = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os.chdir(work)
        sys.path.insert(0, str(work))
        os.environ["PYTHONPATH"] = str(work)  # of what tests start
        sys.dont_write_bytecode = True
        code = int(run())
    finally:
        os._exit(code)


def record(work, to):
    """Run all tests and write what a `Recorder` learns."""
    tests = [f"tests/{path.name}" for path in sorted((work / "tests").glob("test_*.py"))]
    tests = [
        test for test in tests if not test.startswith(("tests/test_browser", "tests/test_pages"))
    ]

    def run():
        recorder = Recorder(coverage.Coverage(data_file=None, source=["rbm_tutorial"]))
        recorder.coverage.start()
        go_on = "--continue-on-collection-errors"  # of tests about files that are not copied
        pytest.main([*tests, go_on, "-q", "-p", "no:cacheprovider", "-p", "no:cov"], [recorder])
        recorder.coverage.stop()
        to.write_text(json.dumps(recorder.result(work / "rbm_tutorial")), encoding="utf-8")
        return 0

    if exit_code(work, run):
        raise RuntimeError("The tests could not be run.")
    recorded = json.loads(to.read_text(encoding="utf-8"))
    if not recorded["seconds"]:
        raise RuntimeError("No test passes without any change.")
    return recorded


def tests_of(recorded, module, first, last):
    """The tests that run one of these lines, the quickest first, up to `SECONDS` of them."""
    lines, seconds = recorded["lines"][module], recorded["seconds"]
    found = {test for line in range(first, last + 1) for test in lines.get(str(line), ())}
    found |= {test for test in seconds if test.startswith(f"tests/test_{module}.py")}
    chosen, total = [], 0.0
    for test in sorted(found & set(seconds), key=seconds.get):
        total += seconds[test]
        if total > SECONDS and chosen:
            break
        chosen.append(test)
    return chosen


def failing(work, tests, seconds):
    """The first of these tests that fails; `None` if none does."""
    told = work / "told"
    told.unlink(missing_ok=True)
    arguments = [*tests, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:cov"]
    code = exit_code(work, lambda: pytest.main(arguments, [Watch(seconds, told)]))
    if code and not told.exists():
        return IMPORT
    return told.read_text(encoding="utf-8") if code else None


def noticed(work, path, source, changed, tests, seconds):
    """Whether a test fails that does not fail by itself without the change."""
    while tests:
        path.write_text(changed, encoding="utf-8")
        failed = failing(work, tests, seconds)
        path.write_text(source, encoding="utf-8")
        if failed is None:
            return False
        alone = tests if failed == IMPORT else [failed]
        if failing(work, alone, seconds) != failed:
            return True
        tests = [] if failed == IMPORT else [test for test in tests if test != failed]
    return False


def tried(module, recorded, options, again=None):
    """A module, and what became of some of its changes: a sample, or those like `again`."""
    with tempfile.TemporaryDirectory() as work:
        work = copied(pathlib.Path(work))
        path = work / "rbm_tutorial" / f"{module}.py"
        source = path.read_text(encoding="utf-8")
        lines, every = source.splitlines(), list(mutants(source))
        named = [{"what": what, "code": lines[first - 1].strip()} for first, _, what, _ in every]
        size = min(options.each, len(every))
        rng = random.Random(f"{options.seed} {module}")  # the same whatever else is tried
        sample = sorted(rng.sample(range(len(every)), size))
        if again is not None:
            sample = [number for number, name in enumerate(named) if name in again]
        survivors = []
        for number in sample:
            first, last, _, changed = every[number]
            tests = tests_of(recorded, module, first, last)
            if not noticed(work, path, source, changed, tests, recorded["seconds"]):
                survivors.append(named[number])
                print(f"{module}.py:{first}: {' : '.join(named[number].values())}", flush=True)
    print(f"{module}: {len(sample) - len(survivors)} of {len(sample)} noticed", flush=True)
    return module, {"changes": len(every), "tried": size, "survivors": survivors}


def copied(work):
    """The package and its tests in another folder."""
    for folder in ("rbm_tutorial", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, work / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", work)
    return work


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="all if not given")
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--to", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--recorded", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    left = LEFT if keras.backend.backend() == "jax" else LEFT + ON_JAX
    modules = options.modules or sorted(
        path.stem for path in ROOT.glob("rbm_tutorial/[!_]*.py") if path.stem not in left
    )
    report = {}
    if options.to and options.to.exists():
        report = json.loads(options.to.read_text(encoding="utf-8"))
        modules = [m for m in modules if report.get(m, {"survivors": [...]})["survivors"]]
    if options.recorded and options.recorded.exists():
        recorded = json.loads(options.recorded.read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            to = (options.recorded or folder / "recorded.json").resolve()
            recorded = record(copied(folder / "work"), to)
    print(f"{len(recorded['seconds'])} tests pass without any change", flush=True)
    again = {module: result["survivors"] for module, result in report.items()}
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("fork")) as pool:
        runs = [
            pool.submit(tried, module, recorded, options, again.get(module)) for module in modules
        ]
        for run in as_completed(runs):
            module, result = run.result()
            report[module] = {**result, "tried": report.get(module, result)["tried"]}
            if options.to:
                options.to.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
