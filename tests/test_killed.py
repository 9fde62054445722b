"""Processes that are killed at random moments and started again end as if they had not been.

`experiments/killed.py` kills each kind of training at twenty moments; here it is two at one.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KINDS = "centered", "live"  # which keep chains, offsets, averages and a random state beside weights


@pytest.mark.slow
def test_a_process_that_was_killed_goes_on_bit_for_bit(tmp_path):
    """And one that goes on with another order of examples does not."""
    path = tmp_path / "report.json"
    command = [sys.executable, "experiments/killed.py", "--eagerly", "--moments", "1", "--to", path]
    done = subprocess.run(
        [*command, "--kinds", *KINDS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text(encoding="utf-8"))["kinds"]
    assert [(report[kind]["equal"], report[kind]["twins_equal"]) for kind in KINDS] == [(1, 0)] * 2
