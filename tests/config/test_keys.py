"""The plugin's keys: their defaults, that every key is read, and that every documented value works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from detectron2.config import get_cfg

from retina_plugin import add_retina_config
from retina_plugin.config import KEYS, all_keys, get_key
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS


def test_adding_the_keys_changes_none_of_detectron2s_and_can_be_repeated():
    cfg, before = get_cfg(), get_cfg()
    add_retina_config(cfg)
    cfg.SOLVER.OPTIMIZER = "AdamW"
    once = cfg.clone()
    add_retina_config(cfg)
    assert cfg == once, "the user's value is kept"
    assert get_cfg() == before, "Detectron2's defaults must not change"
    assert all(get_key(cfg, key) == get_key(before, key) for key in all_keys(before))
    assert set(all_keys(cfg)) - set(all_keys(before)) == set(KEYS)


def test_two_configs_do_not_share_a_default():
    first, second = get_cfg(), get_cfg()
    add_retina_config(first)
    add_retina_config(second)
    first.MODEL.RETINANET.LEVELS.append(8)
    assert second.MODEL.RETINANET.LEVELS == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", KEYS)
def test_a_default_is_allowed_and_the_record_has_a_meaning(name):
    key = KEYS[name]
    assert key.rule.allows(key.default)
    assert key.meaning.endswith((".", ")")) and key.rule.says()


@pytest.mark.parametrize("name", DETECTRON2_KEYS)
def test_detectron2s_default_is_allowed(name):
    assert DETECTRON2_KEYS[name].problem(get_cfg()) is None


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What every_value.py reports after it tried every documented value and trained, in a fresh process."""
    folder = tmp_path_factory.mktemp("every_value")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RETINA_ROOT_DIGITS": str(folder / "digits")}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("every_value.py")), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.long
def test_every_documented_value_and_both_ends_of_every_range_work(report):
    assert report["wrong"] == [] and report["tried"] > 250


READ_BEFORE_THERE_IS_A_CONFIG = {"NEEDS_IMPORT_RETINA_PLUGIN", "VERSION", "IMPORTS"}
"""The check of the first two is their only purpose; IMPORTS is read from the file, as its modules may add keys."""


@pytest.mark.long
def test_every_declared_key_is_read(report):
    unread = {*KEYS, *DETECTRON2_KEYS} - set(report["readers"])
    assert unread == READ_BEFORE_THERE_IS_A_CONFIG


WITHOUT_RECORD = {
    "MODEL.RETINANET.IN_FEATURES",  # compared with MODEL.RETINANET.LEVELS, which replaces it
    "MODEL.FPN.IN_FEATURES",  # likewise
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE",  # refused by the plugin's ResNet
    "TEST.EXPECTED_RESULTS",  # passed on to Detectron2
}


@pytest.mark.long
def test_every_key_of_detectron2_that_the_plugin_reads_has_a_record(report):
    known = set(all_keys(get_cfg()))
    readers = {key: found for key, found in report["readers"].items() if key in known}
    read_by_us = {key for key, found in readers.items() if any(name.startswith("retina_plugin.") for name in found)}
    assert read_by_us - set(DETECTRON2_KEYS) == WITHOUT_RECORD
