"""The import rules of docs/architecture.md, and what `import retina_plugin` promises."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support import ROOT

PACKAGE = ROOT / "retina_plugin"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
HEADER = "| part | may import | never imports |\n|---|---|---|\n"


class Rule(NamedTuple):
    """One row of the table of import rules; names are relative to retina_plugin or those of other packages."""

    parts: list[str]
    allowed: list[str]
    everything: bool
    forbidden: list[str]


def rules_of(page: str) -> list[Rule]:
    """Return the rows of the table "Import rules" of a page."""
    lines = page.partition(HEADER)[2].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = [[re.findall(r"`([\w.]+)`", cell) for cell in row] for row in rows]
    return [
        Rule(parts, allowed, row[1] == "everything", forbidden)
        for row, (parts, allowed, forbidden) in zip(rows, names, strict=True)
    ]


RULES = rules_of(PAGE)
PARTS = {part: rule for rule in RULES for part in rule.parts}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, also inside functions, from its syntax tree."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def module_of(path: Path) -> str:
    """Return the dotted name of a file, relative to retina_plugin; the package's own ``__init__`` keeps its name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def as_in_the_table(name: str) -> str:
    """Return an imported name as the table writes it: parts of the plugin without "retina_plugin."."""
    if name.split(".")[0] != "retina_plugin":
        return name
    inner = name.partition(".")[2]
    return inner if inner.split(".")[0] in PARTS else "__init__"  # retina_plugin.load_config is defined in __init__


def within(name: str, parts: Iterable[str]) -> bool:
    """Return whether a dotted name is one of the parts or below one."""
    return any(name == part or name.startswith(part + ".") for part in parts)


def breaches(rule: Rule, path: Path) -> list[str]:
    """Return the imports of a file that a rule does not allow, each in words."""
    module = module_of(path)
    own = [part for part in PARTS if within(module, [part])]
    governs = max(own, key=len) in rule.parts
    wrong = []
    imports = (name for name in imports_of(path) if name.split(".")[0] not in sys.stdlib_module_names)
    for name in map(as_in_the_table, imports):
        if within(name, [max(own, key=len)]):
            continue
        allowed = rule.everything or within(name, rule.allowed)
        if within(name, rule.forbidden) or (governs and not allowed):
            wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    return wrong


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: ",".join(rule.parts))
def test_imports_follow_the_table_in_the_architecture_page(rule):
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if within(module_of(path), rule.parts)]
    assert [breach for path in files for breach in breaches(rule, path)] == []


TRACKERS = ("clearml", "trackio", "wandb")
"""Packages that people install for themselves."""


def test_every_part_has_one_row_and_every_name_in_the_table_exists():
    top_level = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert {part for part in PARTS if "." not in part} == top_level
    assert len(PARTS) == sum(len(rule.parts) for rule in RULES)
    modules = {module_of(path) for path in PACKAGE.rglob("*.py")}
    assert set(PARTS) <= modules
    others = {name for rule in RULES for name in (*rule.allowed, *rule.forbidden)} - modules
    assert [name for name in sorted(others) if name not in TRACKERS and importlib.util.find_spec(name) is None] == []


def test_the_table_allows_nothing_that_it_forbids():
    assert [name for rule in RULES for name in rule.allowed if within(name, rule.forbidden)] == []


@pytest.mark.parametrize(("line", "breach"), [
    ("from retina_plugin import cli", "imports cli"),
    ("def f():\n    from ..engine import trainer", "imports engine.trainer"),
    ("import retina_plugin", "imports __init__"),
    ("import scipy.stats", "imports scipy.stats"),
    ("import json, torch\nfrom ..data import boxes\nfrom ..config import key", None),
])  # fmt: skip
def test_an_import_that_the_table_does_not_allow_is_found(line, breach, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "retina_plugin")
    file = tmp_path / "retina_plugin/data/new.py"
    file.parent.mkdir(parents=True)
    file.write_text(line, encoding="utf-8")
    assert breaches(PARTS["data"], file) == ([f"retina_plugin/data/new.py {breach}"] if breach else [])


def test_the_architecture_page_lists_every_folder():
    listed = set(re.findall(r"^\| `([\w/]+)/` \|", PAGE, re.MULTILINE))
    packages = {
        f"retina_plugin/{path.parent.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.glob("*/**/__init__.py")
    }
    assert packages <= listed
    assert {"configs", "datasets", "docs", "examples/my_variant", "tests", "tools"} <= listed
    assert {f"configs/{path.name}" for path in (ROOT / "configs").iterdir() if path.is_dir()} <= listed
    assert [folder for folder in sorted(listed) if not (ROOT / folder).is_dir()] == []


def test_no_module_uses_private_names_or_the_retinanet_of_detectron2():
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in PACKAGE.rglob("*.py")
        for name in imports_of(path)
        if name.startswith("detectron2") and (name.rsplit(".")[-1].startswith("_") or name.endswith(".RetinaNet"))
    ]
    assert wrong == []


def test_every_source_file_has_a_test_file():
    sources = {p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if not p.name.startswith("__")}
    tests = {p.relative_to(ROOT / "tests") for p in (ROOT / "tests").rglob("test_*.py")}
    assert sorted(str(s) for s in sources if s.with_name(f"test_{s.name}") not in tests) == []


@pytest.mark.slow
def test_in_a_fresh_process_the_import_alone_fills_the_registries():
    program = """
import importlib
import retina_plugin
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
assert "RetinaPluginNet" in META_ARCH_REGISTRY and "build_retina_resnet" in BACKBONE_REGISTRY
assert "digits_train" in DatasetCatalog
import retina_plugin.modeling.losses.classification as c
importlib.reload(c)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/")


POSIX = ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty", "syslog")
"""Modules of Python's library that Windows does not have."""


@pytest.mark.slow
def test_nothing_needs_modules_that_windows_lacks(small_digits):
    """Import every module, check a dataset and load a config, while the plugin cannot import these modules."""
    program = f"""
import builtins, importlib, os, pkgutil
original = builtins.__import__
def refuse(name, globals=None, locals=None, fromlist=(), level=0):
    if name.split(".")[0] in {POSIX!r} and (globals or {{}}).get("__name__", "").startswith("retina_plugin"):
        raise ImportError(f"{{name}} does not exist on Windows")
    return original(name, globals, locals, fromlist, level)
builtins.__import__ = refuse
del os.pread, os.O_NONBLOCK
import retina_plugin
modules = pkgutil.walk_packages(retina_plugin.__path__, "retina_plugin.")
names = [module.name for module in modules if not module.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
from retina_plugin.data.check import check_card
from retina_plugin.data.discover import find_card
from retina_plugin.hardware import peak_memory_mib
assert not check_card(find_card("digits"), progress=False).failed and peak_memory_mib() == 0.0
retina_plugin.load_config({str(ROOT / "configs/digits/quickstart.yaml")!r}, ["MODEL.DEVICE", "cpu"])
print(len(names))
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout.split()[-1]) > 90


def _lacks_encoding(node: ast.AST) -> bool:
    """Return whether a node opens a text file without naming the encoding."""
    if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
        return False
    if isinstance(node.func, ast.Attribute):
        return node.func.attr in ("read_text", "write_text")
    modes = [x.value for x in node.args[1:2] if isinstance(x, ast.Constant) and isinstance(x.value, str)]
    is_open = isinstance(node.func, ast.Name) and node.func.id == "open"
    return is_open and not any("b" in mode for mode in modes) and len(node.args) < 3


def test_every_text_file_is_opened_with_its_encoding():
    """The default of Windows is another encoding, and a class called "Δ" would end a run."""
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tools").glob("*.py"), ROOT / "setup.py"]
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if _lacks_encoding(node)
    ]
    assert wrong == []
