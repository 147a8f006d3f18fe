"""The keys as text for readers."""

import os
import subprocess
import sys

import pytest
from support import ROOT

from retina_plugin.config import KEYS
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS
from retina_plugin.config.page import allowed, keys_help, keys_page


@pytest.mark.slow
def test_the_page_of_keys_is_current(tmp_path):
    # In a separate process, so that the page has the variants of the plugin, not those that a test registered.
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "retina_plugin", "keys", "--write", str(tmp_path / "keys.md")],
        check=True,
        capture_output=True,
        env=env,
    )
    new, committed = (file.read_text(encoding="utf-8") for file in (tmp_path / "keys.md", ROOT / "docs/keys.md"))
    assert new == committed, "run: retina keys --write docs/keys.md"


def test_the_page_has_every_key_once_with_default_and_range():
    rows = [line for line in keys_page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [*KEYS, *DETECTRON2_KEYS]
    (row,) = [row for row in rows if row.startswith("| `MODEL.FPN.BIFPN_LAYERS`")]
    assert row.startswith("| `MODEL.FPN.BIFPN_LAYERS` | `3` | an integer at least 1 and at most 32 |")


def test_help_finds_keys_by_name_and_meaning_and_lists_variants():
    assert keys_help("eval_epochs").startswith("TEST.EVAL_EPOCHS = 1\n")
    assert "atss" in allowed(KEYS["MODEL.RETINANET.ASSIGNER"])
    assert "BACKBONE_REGISTRY" in allowed(KEYS["MODEL.BOTTOM_UP.NAME"])
    assert keys_help("no such word") == ""
    assert len([line for line in keys_help().splitlines() if line[0] != " "]) == len(KEYS) + len(DETECTRON2_KEYS)
