"""What %load_ext costs: the standard library and what IPython has loaded anyway."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_cell("%load_ext personas_nb")
after = {name for name in set(sys.modules) - before if not name.startswith("personas_nb")}
strange = {name.partition(".")[0] for name in after} - sys.stdlib_module_names - {"IPython"}
ours = sorted(name for name in sys.modules if name.startswith("personas_nb"))
print(sorted(strange), ours, shell.find_line_magic("persona") is not None, sep="|")
"""


def loaded(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_load_ext_imports_the_standard_library_only_and_prints_nothing():
    strange, ours, has_magic = loaded(CODE).splitlines()[-1].split("|")
    assert strange == "[]"
    assert has_magic == "True"
    assert "personas_nb.studio" not in ours
    assert "personas_nb.verbs" not in ours
    assert "personas_nb.settings" not in ours
    assert len(loaded(CODE).splitlines()) == 1


def test_the_front_door_imports_nothing_but_itself():
    code = """
import sys
before = set(sys.modules)
import personas_nb
print([name for name in set(sys.modules) - before if name.partition(".")[0] not in sys.stdlib_module_names])
"""
    assert loaded(code) == "['personas_nb']"
