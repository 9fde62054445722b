"""Execute pages and keep their outputs for the build.

    python tools/execute.py [--in-place] PAGE ...

Outputs go to the cache that Jupyter Book reads, and what kernels and C++ code log to _build/logs.
As many pages run at once as there are cores; those that are written back, with --in-place, run
one by one, since some of them time what they do. Each runs on one thread: pages would contend for
more, and a sum that is divided among threads is rounded in another order on another machine.
"""

import argparse
import os
import sys
import time
from multiprocessing.pool import ThreadPool  # its threads do not hold up an interrupt
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.readers import get_reader
from nbclient import NotebookClient

BUILD = Path("_build")
THREADS = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)


def execute(page: str) -> nbformat.NotebookNode:
    """Return the page as a notebook, executed in the folder in which it lies."""
    reader = "myst_nb_md" if page.endswith(".md") else "nbformat"
    client = NotebookClient(
        get_reader({"type": "plugin", "name": reader})(page),
        resources={"metadata": {"path": Path(page).parent}},
        timeout=600,
        coalesce_streams=True,
        record_timing=False,
        extra_arguments=["--IPKernelApp.capture_fd_output=False"],
    )
    with (BUILD / "logs" / f"{Path(page).stem}.txt").open("w") as log:
        return client.execute(stdout=log, stderr=log)


def attempt(page: str) -> tuple[str, float, nbformat.NotebookNode | None, str]:
    """Return the page, the seconds it took, and its notebook or what went wrong."""
    start, notebook, error = time.monotonic(), None, ""
    try:
        notebook = execute(page)
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    return page, time.monotonic() - start, notebook, error


def main() -> None:
    """Execute the pages that are named; exit with 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+")
    parser.add_argument("--in-place", action="store_true", help="write into the notebooks, too")
    arguments = parser.parse_args()
    (BUILD / "logs").mkdir(parents=True, exist_ok=True)
    os.environ.update(dict.fromkeys(THREADS, "1"))  # which kernels inherit
    cache, failed = get_cache(BUILD / ".jupyter_cache"), []
    print("Executing pages; minutes and seconds that each took:", flush=True)
    with ThreadPool(1 if arguments.in_place else None) as pool:
        attempts = pool.imap_unordered(attempt, arguments.pages)
        for number, (page, seconds, notebook, error) in enumerate(attempts, start=1):
            count, (minutes, rest) = len(arguments.pages), divmod(round(seconds), 60)
            print(f"{number:3} of {count} {minutes:2}:{rest:02} {page}", flush=True)
            if error:
                print(f"failed: {error}", flush=True)
                failed.append(page)
                continue
            bundle = CacheBundleIn(notebook, page, data={"execution_seconds": seconds})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            if arguments.in_place:
                nbformat.write(notebook, page)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. More may be said in {BUILD / 'logs'}.")


if __name__ == "__main__":
    main()
