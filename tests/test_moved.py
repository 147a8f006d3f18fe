"""Former names of modules."""

import importlib
import sys
import warnings

import pytest

from retina_plugin.moved import MOVED


@pytest.mark.parametrize("former", MOVED)
def test_a_former_name_gives_the_module_of_today_and_a_warning(former):
    sys.modules.pop(former, None)
    with pytest.warns(DeprecationWarning, match=f"{former} is now {MOVED[former]}"):
        old = importlib.import_module(former)
    new = importlib.import_module(MOVED[former])
    assert old is new
    assert old.__name__ == old.__spec__.name == MOVED[former]


def test_names_of_today_and_other_names_are_left_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.import_module("retina_plugin.engine.launch")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("retina_plugin.bench.nothing")
