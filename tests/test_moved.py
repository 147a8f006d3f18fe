"""Former names of modules."""

import importlib
import subprocess
import sys

import pytest

from retina_plugin.moved import MOVED


@pytest.mark.parametrize("former", MOVED)
def test_a_former_name_gives_the_module_of_today_and_a_warning(former):
    program = f"""
import importlib, warnings
import retina_plugin
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    old = importlib.import_module({former!r})
new = importlib.import_module({MOVED[former]!r})
assert old is new and old.__name__ == old.__spec__.name == {MOVED[former]!r}
assert any({MOVED[former]!r} in str(w.message) for w in caught)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, cwd="/")


def test_other_names_are_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("retina_plugin.bench.nothing")
