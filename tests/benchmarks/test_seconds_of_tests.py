"""Files of tests are listed by the processor time that they and their processes take."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

if not Path("/proc/self/task").is_dir():
    pytest.skip("the processes of a test are listed by Linux alone", allow_module_level=True)

BUSY = "import time\nwhile time.process_time() < 0.4: pass"
TESTS = {
    "test_idle.py": "import time\ndef test_it(): time.sleep(0.4)\n",
    "test_busy.py": f"import subprocess, sys\ndef test_it(): subprocess.run([sys.executable, '-c', "
    f"{BUSY!r}])\n",
}


def test_a_process_of_a_test_counts_and_waiting_does_not(tmp_path: Path) -> None:
    for name, text in TESTS.items():
        (tmp_path / name).write_text(text)
    plugins = ("-p", "benchmarks.seconds_of_tests", "-p", "no:cacheprovider")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, "-c", "/dev/null", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    lines = re.findall(r"^ +([\d.]+)  \S*?(test_\w+\.py|all)$", done.stdout, re.MULTILINE)
    assert [name for _, name in lines] == ["test_busy.py", "test_idle.py", "all"], done.stdout
    busy_s, idle_s, _ = (float(seconds) for seconds, _ in lines)
    assert busy_s >= 0.4
    assert idle_s < busy_s / 2
