"""Options of the whole suite, and how it is shared out to workers (pytest-xdist, where it is installed)."""

import importlib.util
import os
from pathlib import Path

import pytest

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MOST_WORKERS = 4
"""Each holds models, a server and a browser of its own: 2 to 3 GB, and with models at real shapes about 12."""

# Read by torch when it is imported, and by every server and program that a test starts: threads of one worker beside those of
# another only wait for each other.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, CORES // int(workers))))


def pytest_configure():
    """Tests of one checkout that import another's code would pass or fail for the wrong reasons."""
    found = importlib.util.find_spec("ssr_core")
    here = Path(__file__).parents[1]
    if found is None or not found.origin or Path(found.origin).parents[1].resolve() != here.resolve():
        told = "is not installed" if found is None else f"would come from {found.origin}"
        raise pytest.UsageError(f"ssr_core {told}. Run `python -m pytest` in {here}, or `pip install -e .` there first.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """-n auto: every core counts, as torch counts them; on a single one the tests run in this process."""
    return 0 if CORES == 1 else min(CORES, MOST_WORKERS)


def pytest_addoption(parser):
    parser.addoption("--screenshots", metavar="FOLDER", help="where browser tests leave their screenshots")
