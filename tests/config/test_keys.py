"""The plugin's keys: their defaults, that each is read, and that every documented value works."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from detectron2.config import get_cfg

from retina_plugin import add_retina_config
from retina_plugin.config import KEYS, all_keys, get_key
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS
from retina_plugin.modeling import CLS_LOSS_REGISTRY


def test_adding_the_keys_leaves_detectron2s_alone_and_can_be_repeated():
    cfg, before = get_cfg(), get_cfg()
    add_retina_config(cfg)
    cfg.SOLVER.OPTIMIZER = "AdamW"
    once = cfg.clone()
    add_retina_config(cfg)
    assert cfg == once, "what the user set stays"
    assert get_cfg() == before, "the defaults of detectron2 are nobody's to change"
    assert all(get_key(cfg, key) == get_key(before, key) for key in all_keys(before))
    assert set(all_keys(cfg)) - set(all_keys(before)) == set(KEYS)


def test_two_configs_share_no_default():
    first, second = get_cfg(), get_cfg()
    add_retina_config(first)
    add_retina_config(second)
    first.MODEL.RETINANET.LEVELS.append(8)
    assert second.MODEL.RETINANET.LEVELS == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", KEYS)
def test_a_default_is_allowed_and_the_record_says_what_it_is_for(name):
    key = KEYS[name]
    assert key.rule.allows(key.default)
    assert key.meaning.endswith((".", ")")) and key.rule.says()


@pytest.mark.parametrize("name", DETECTRON2_KEYS)
def test_a_default_of_detectron2_is_allowed(name):
    assert DETECTRON2_KEYS[name].problem(get_cfg()) is None


def test_every_key_is_read_somewhere():
    readers = "\n".join(p.read_text() for p in (ROOT / "retina_plugin").rglob("*.py") if p.name != "keys.py")
    options = {option for _, loss in CLS_LOSS_REGISTRY for option in inspect.signature(loss).parameters}

    def is_read(key):
        if key.startswith("MODEL.CLS_LOSS."):  # offered to the losses, whose constructors name what they take
            return key.rsplit(".")[-1].lower() in options
        if key == "NEEDS_IMPORT_RETINA_PLUGIN":
            return True  # its rule is what reads it
        return re.search(rf"cfg\.{re.escape(key)}\b", readers)

    assert [key for key in KEYS if not is_read(key)] == []


def test_every_documented_value_and_both_ends_of_every_range_work_in_a_fresh_process(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RETINA_ROOT_DIGITS": str(tmp_path / "digits")}
    program = Path(__file__).with_name("every_value.py")
    result = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads(result.stdout.splitlines()[-1]) == []
    tried = int(re.search(r"(\d+) values tried", result.stderr)[1])
    assert tried > 250
