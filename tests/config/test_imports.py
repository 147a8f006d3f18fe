"""Custom modules: found, imported once, and named when something is wrong with them."""

import builtins
import json
import sys

import pytest
from support import BASE

from retina_plugin import load_config
from retina_plugin.config import add_key, config_from_text, dump_config, import_modules, known_keys
from retina_plugin.config.imports import ModuleError, place_of
from retina_plugin.config.key import Key
from retina_plugin.config.keys import OWN
from retina_plugin.config.values import Number

PLAIN = ["MODEL.DEVICE", "cpu", "MODEL.RETINANET.NUM_CLASSES", 3, "MODEL.WEIGHTS", "x.pth"]


@pytest.fixture()
def here(tmp_path, monkeypatch):
    """A working directory with modules, outside Python's search path; what they change is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")


def test_a_module_of_the_working_directory_is_imported_once(here):
    write(here, counted_module="import builtins\nbuiltins.counted = getattr(builtins, 'counted', 0) + 1\n")
    try:
        import_modules(["counted_module"])
        import_modules(["counted_module", "counted_module"])
        assert builtins.counted == 1
    finally:
        del builtins.counted
    assert place_of("counted_module") == str(here)


def test_pythons_search_path_comes_before_the_working_directory(here):
    write(here, json="raise RuntimeError('the wrong one')\n", statistics="raise RuntimeError('the wrong one')\n")
    import_modules(["statistics"])
    assert str(here) not in sys.path


def test_a_module_of_a_package_is_found_in_an_additional_folder(here, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "a_package").mkdir()
    write(other / "a_package", __init__="", losses="value = 3\n")
    import_modules(["a_package.losses"], places=[other])
    assert sys.modules["a_package.losses"].value == 3 and place_of("a_package.losses") == str(other)


@pytest.mark.parametrize(
    "name", ["my-losses", "losses.py", "../losses", "a..b", "", "a b", 3, None, "import os", "/tmp/x", "a.b\n"]
)
def test_a_name_that_is_not_a_module_name_is_refused(here, name):
    with pytest.raises(ModuleError, match="is not a module name; give a name"):
        import_modules([name])


def test_the_error_for_a_file_suggests_its_module_name(here):
    with pytest.raises(ModuleError, match="'my_package/losses.py' is not a module name; .* such as my_package.losses"):
        import_modules(["my_package/losses.py"])


@pytest.mark.parametrize(
    "text, error, place",
    [
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all' (", "broken.py, line 1)"),
        ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero (", "broken.py, line 2)"),
        ("def f(:\n", "SyntaxError", ""),
        ("from retina_plugin.extend import nothing_of_this_name\n", "ImportError: cannot import name", ""),
    ],
)
def test_a_module_that_fails_to_import_is_named_with_file_and_line(here, text, error, place):
    write(here, broken=text)
    with pytest.raises(ModuleError) as caught:
        import_modules(["broken"], asked_by="--import")
    assert str(caught.value).startswith(f"--import: broken fails to import: {error}")
    assert str(caught.value).endswith(place)


def test_the_error_for_a_missing_module_names_the_places_searched(here):
    searched = f"there is no module 'nowhere_here' in Python's search path or in {here}"
    with pytest.raises(ModuleError, match=searched):
        import_modules(["nowhere_here"])
    with pytest.raises(ModuleError, match="there is no module 'json.nowhere_here'"):
        import_modules(["json.nowhere_here"])


OWN_MODULE = """
from retina_plugin.extend import Key, Number, add_key
add_key(Key('OWN_MODULE.WIDTH', Number(int, 1, 9), 'A width.', 3))
"""


def test_a_config_imports_its_modules_and_a_checkpoint_only_with_consent(here):
    write(here, own_module=OWN_MODULE)
    text = f"_BASE_: {BASE}\nIMPORTS: [own_module]\nOWN_MODULE: {{WIDTH: 4}}\n"
    (here / "mine.yaml").write_text(text, encoding="utf-8")
    try:
        cfg = load_config("mine.yaml", PLAIN)
        assert cfg.OWN_MODULE.WIDTH == 4 and tuple(cfg.IMPORTS) == ("own_module",)
        with pytest.raises(ValueError, match="OWN_MODULE.WIDTH is 10; it must be an integer at least 1 and at most 9"):
            load_config("mine.yaml", [*PLAIN, "OWN_MODULE.WIDTH", 10])
        text = dump_config(cfg)
    finally:
        OWN.clear()
    del sys.modules["own_module"]
    assert "OWN_MODULE" not in config_from_text(text) and "own_module" not in sys.modules
    try:
        assert config_from_text(text, imports=True).OWN_MODULE.WIDTH == 4 and "own_module" in sys.modules
    finally:
        OWN.clear()


@pytest.mark.parametrize("value", ["own_module", 3, [[1]]])
def test_imports_of_a_checkpoint_must_be_a_list_of_names(value):
    text = dump_config(load_config(BASE, PLAIN)).replace("IMPORTS: []", f"IMPORTS: {json.dumps(value)}")
    with pytest.raises(ValueError, match="IMPORTS is "):
        config_from_text(text)


@pytest.mark.parametrize("value", ["own_module", 3, {"a": 1}])
def test_imports_must_be_a_list(here, value):
    with pytest.raises(ValueError, match="IMPORTS"):
        load_config(BASE, [*PLAIN, "IMPORTS", value])


@pytest.mark.parametrize(
    "name, message",
    [
        ("MODEL.RETINANET.CLS_LOSS", "clashes with the existing key MODEL.RETINANET.CLS_LOSS"),
        ("SOLVER", "clashes with the existing key SOLVER."),
        ("SOLVER.BASE_LR.MINE", "clashes with the existing key SOLVER.BASE_LR"),
        ("my_package.width", "is not a valid key name"),
        ("A..B", "is not a valid key name"),
        ("A B", "is not a valid key name"),
    ],
)
def test_a_key_that_cannot_be_added_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        add_key(Key(name, Number(int), "A width.", 3))


def test_a_key_whose_default_is_not_allowed_is_refused():
    with pytest.raises(ValueError, match="its default is 0; it must be"):
        add_key(Key("MINE.WIDTH", Number(int, 1), "A width.", 0))
    assert "MINE.WIDTH" not in known_keys()
