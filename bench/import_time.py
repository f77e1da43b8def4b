"""What the extension costs a kernel that has just started; exits 1 when it is too slow.

python bench/import_time.py

Each figure is the median of five new processes that have an IPython shell already. ``%persona list`` is the
first verb of its process: on a home that exists, which is held to the limit, and on a new one, which the first
use makes (shown only: it happens once).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, LOAD_LIMIT_MS, LIST_LIMIT_MS = 5, 50, 600
KERNEL = """
import json, sys, time
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_cell("1 + 1", silent=True)

def took(cell):
    began = time.perf_counter()
    result = shell.run_cell(cell)
    seconds = time.perf_counter() - began
    result.raise_error()
    return seconds * 1000

loaded = took("%load_ext personas_nb")
listed = took("%persona list")
with open(sys.argv[1], "w") as file:
    json.dump([loaded, listed], file)
"""


def measured(home: Path, ipython: Path) -> tuple[float, float]:
    """Milliseconds of ``%load_ext personas_nb`` and of the first ``%persona list`` in a new process."""
    answer = ipython / "answer.json"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PERSONAS_")}
    environ |= {"PERSONAS_HOME": str(home), "IPYTHONDIR": str(ipython), "NO_COLOR": "1"}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, str(answer)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ipython,
    )
    if done.returncode != 0:
        raise SystemExit(f"The kernel's process failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    loaded, listed = json.loads(answer.read_text())
    return loaded, listed


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        home, ipython = Path(folder, "home"), Path(folder, "ipython")
        ipython.mkdir()
        measured(home, ipython)  # compiles the modules, and makes the home
        known = [measured(home, ipython) for _ in range(ROUNDS)]
        new = [measured(Path(folder, f"new{number}"), ipython) for number in range(ROUNDS)]
    load = statistics.median(loaded for loaded, _ in known + new)
    first, first_new = (statistics.median(listed for _, listed in rounds) for rounds in (known, new))
    print(f"%load_ext personas_nb               {load:7.1f} ms   at most {LOAD_LIMIT_MS}")
    print(f"first %persona list                 {first:7.1f} ms   at most {LIST_LIMIT_MS}")
    print(f"first %persona list, in a new home  {first_new:7.1f} ms")
    is_good = load <= LOAD_LIMIT_MS and first <= LIST_LIMIT_MS
    print("all figures hold" if is_good else "a figure misses")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
