"""docs/extending.md, followed word for word in a folder that looks like a clone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:`([\w.]+)`[^`\n]*:\n\n)?```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [match.groups() for match in BLOCK.finditer(PAGE)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory, digits_root):
    """The files of the repository that commands name, and those that the page has its reader write."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("train_net.py", "configs", "retina_plugin"):
        (folder / name).symlink_to(ROOT / name)
    for name, _, text in BLOCKS:
        if name:
            (folder / name).write_text(text)
    programs = folder / "bin"
    programs.mkdir()
    for name, words in (("python", ""), ("retina", "-m retina_plugin ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (programs / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETINA_ROOT_DIGITS", str(digits_root))
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(folder))
        yield folder


def test_the_page_has_files_and_commands():
    assert [name for name, *_ in BLOCKS if name] == ["my_loss.py", "my_training.py", "my_script.py", "my_sweep.yaml"]
    assert len([text for _, kind, text in BLOCKS if kind == "sh"]) == 5


@pytest.mark.long
def test_every_command_of_the_page_runs_in_its_order(clone):
    said = ""
    for name, kind, text in BLOCKS:
        if name or kind == "yaml":
            continue
        command = ["sh", "-ec", text] if kind == "sh" else [sys.executable, "-c", text]
        result = subprocess.run(command, cwd=clone, capture_output=True, text=True)
        assert result.returncode == 0, f"{text}\n{result.stdout}{result.stderr}"
        said += result.stdout
    assert "MODEL.CLS_LOSS.TEMPERED_TEMPERATURE = 1.0" in said and "TemperedFocalLoss object" in said
    assert "largest_weight" in (clone / "output/radam/metrics.json").read_text()
    assert (clone / "output/ablations/my_sweep/table.md").read_text().count("\n| 0.5 |") == 1
    assert Path(clone / "output/my_script/log.txt").read_text().count("a script of its own -> output/my_script") == 1


def test_every_slot_of_the_page_exists():
    from retina_plugin import extend
    from retina_plugin.config import all_keys, defaults_of_all
    from retina_plugin.registry import SLOTS

    rows = re.findall(
        r"^\| [\w ,-]+ \| `?([\w.]+)`?.*? \| `(\w+_REGISTRY)`.*? \| `?([\w. ]+?)`? \|$", PAGE, re.MULTILINE
    )
    assert len(rows) == 16
    for key, registry, section in rows:
        slot = getattr(extend, registry)
        assert registry in extend.__all__
        if section not in ("add_key", "a source of the card"):
            assert SLOTS[key] is slot and slot.section == section
    keys = set(all_keys(defaults_of_all()))
    assert {key for key in SLOTS if key in keys} <= {key for key, *_ in rows}
