"""The import rules of the design, and what `import retina_plugin` promises."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "retina_plugin"
FORBIDDEN = {
    # part: what it must not import (docs/architecture.md, "Who may know whom")
    "registry": ["retina_plugin"],
    "hardware": ["retina_plugin"],
    "arguments": ["retina_plugin", "detectron2", "torch"],
    "paths": ["retina_plugin", "detectron2", "torch"],
    "moved": ["retina_plugin", "detectron2", "torch"],
    "analysis": ["retina_plugin.engine", "retina_plugin.inference", "retina_plugin.ablation", "retina_plugin.report", "retina_plugin.cli"],
    "config": ["retina_plugin.data", "retina_plugin.modeling", "retina_plugin.engine", "retina_plugin.evaluation", "retina_plugin.inference", "retina_plugin.cli"],
    "data": ["retina_plugin.modeling", "retina_plugin.engine", "retina_plugin.evaluation", "retina_plugin.inference", "retina_plugin.cli"],
    "modeling": ["retina_plugin.data", "retina_plugin.engine", "retina_plugin.evaluation", "retina_plugin.inference", "retina_plugin.cli"],
    "modeling.losses": ["detectron2.config", "detectron2.utils.events", "detectron2.data", "retina_plugin.modeling.assignment", "retina_plugin.modeling.postprocess", "retina_plugin.modeling.head", "retina_plugin.modeling.neck"],
    "modeling.assignment": ["detectron2.config", "detectron2.utils.events", "detectron2.data", "retina_plugin.modeling"],
    "modeling.postprocess": ["detectron2.config", "detectron2.utils.events", "detectron2.data", "retina_plugin.modeling"],
    "modeling.backbone": ["retina_plugin.config", "retina_plugin.modeling.losses", "retina_plugin.modeling.meta_arch", "retina_plugin.modeling.assignment"],
    "modeling.neck": ["retina_plugin.config", "retina_plugin.modeling.losses", "retina_plugin.modeling.meta_arch", "retina_plugin.modeling.assignment"],
    "modeling.head": ["retina_plugin.config", "retina_plugin.modeling.losses", "retina_plugin.modeling.meta_arch", "retina_plugin.modeling.assignment"],
    "engine": ["retina_plugin.inference", "retina_plugin.cli"],
    "evaluation": ["retina_plugin.engine", "retina_plugin.inference", "retina_plugin.cli"],
    "inference": ["retina_plugin.cli"],
    "report": ["retina_plugin.engine", "retina_plugin.inference", "retina_plugin.ablation", "retina_plugin.bench", "retina_plugin.cli"],
    "ablation": ["retina_plugin.cli", "retina_plugin.bench", "retina_plugin.inference"],
    "bench": ["retina_plugin.cli", "retina_plugin.engine", "retina_plugin.inference"],
}  # fmt: skip


def imports_of(path):
    """Dotted names that a file imports, from its syntax tree."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *([base] if base else [])]
                )
            yield from (f"{base}.{alias.name}" for alias in node.names)


def files_of(part):
    path = PACKAGE.joinpath(*part.split("."))
    return (
        sorted(path.rglob("*.py"))
        if path.is_dir()
        else [*path.parent.glob(f"{path.name}.py"), *path.parent.glob(f"{path.name}_*.py")]
    )


@pytest.mark.parametrize("part", FORBIDDEN)
def test_import_rules(part):
    files = files_of(part)
    assert files, f"{part} does not exist"
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imports_of(file)
        for forbidden in FORBIDDEN[part]
        if name == forbidden or name.startswith(forbidden + ".")
        if not (part.startswith("modeling.") and name.startswith(f"retina_plugin.{part}"))
    ]
    assert wrong == []


def test_nothing_imports_the_command_line():
    wrong = [
        str(f)
        for f in PACKAGE.rglob("*.py")
        if "cli" not in f.parts and f.name != "__main__.py"
        for n in imports_of(f)
        if n.startswith("retina_plugin.cli")
    ]
    assert wrong == []


def test_nobody_uses_detectron2s_private_names_or_subclasses_its_retinanet():
    wrong = [
        f"{f}: {n}"
        for f in PACKAGE.rglob("*.py")
        for n in imports_of(f)
        if n.startswith("detectron2") and (n.rsplit(".")[-1].startswith("_") or n.endswith(".RetinaNet"))
    ]
    assert wrong == []


def test_every_source_file_has_a_test_file():
    sources = {p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if not p.name.startswith("__")}
    tests = {p.relative_to(ROOT / "tests") for p in (ROOT / "tests").rglob("test_*.py")}
    assert sorted(str(s) for s in sources if s.with_name(f"test_{s.name}") not in tests) == []


def test_in_a_fresh_process_the_import_alone_fills_the_registries():
    program = (
        "import retina_plugin; from detectron2.modeling import META_ARCH_REGISTRY, BACKBONE_REGISTRY; from detectron2.data import DatasetCatalog;"
        "assert 'RetinaPluginNet' in META_ARCH_REGISTRY and 'build_retina_resnet' in BACKBONE_REGISTRY and 'digits_train' in DatasetCatalog;"
        "import importlib, retina_plugin.modeling.losses.classification as c; importlib.reload(c)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/")


POSIX = ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty", "syslog")
"""Modules of Python's library that Windows does not have."""


def test_nothing_needs_modules_that_windows_lacks(small_digits):
    """Every module is imported, a dataset checked and a config loaded, while these modules cannot be imported by the plugin."""
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
names = [module.name for module in pkgutil.walk_packages(retina_plugin.__path__, "retina_plugin.") if not module.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
from retina_plugin.data.check import check_card
from retina_plugin.data.discover import find_card
from retina_plugin.engine.summary import peak_memory_mib
assert not check_card(find_card("digits"), progress=False).failed and peak_memory_mib() == 0.0
retina_plugin.load_config({str(ROOT / "configs/digits/quickstart.yaml")!r}, ["MODEL.DEVICE", "cpu"])
print(len(names))
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout.split()[-1]) > 90


def test_text_files_are_utf8_wherever_they_are_written():
    """Windows would take another encoding, and a class called "Δ" would end a run."""
    wrong = []
    for file in [*PACKAGE.rglob("*.py"), *(ROOT / "tools").glob("*.py"), ROOT / "setup.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            named = {keyword.arg for keyword in node.keywords}
            binary = any(
                isinstance(x, ast.Constant) and isinstance(x.value, str) and "b" in x.value for x in node.args[1:2]
            )
            is_open = name == "open" and isinstance(node.func, ast.Name) and not binary
            if (
                (isinstance(node.func, ast.Attribute) and name in ("read_text", "write_text") or is_open)
                and "encoding" not in named
                and not (is_open and len(node.args) > 2)
            ):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []
