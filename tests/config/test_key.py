"""Records of keys, and access to a config by dotted keys."""

import logging

import pytest

from detectron2.config import CfgNode

from retina_plugin.config.key import Key, all_keys, get_key, nearest, say_once, set_key
from retina_plugin.config.values import Choice, Number, Several, Slot, Text


def test_a_problem_names_key_value_and_what_is_allowed():
    key = Key("A.B", Number(int, 1), "A number.", 3)
    cfg = CfgNode()
    key.add_to(cfg)
    assert cfg == {"A": {"B": 3}} and key.problem(cfg) is None
    cfg.A.B = 0
    assert key.problem(cfg) == "A.B is 0; it must be an integer at least 1"


@pytest.mark.parametrize(
    "key, value, hint",
    [
        (Key("A", Choice(("horizontal", "none")), "m", "none"), "horizontl", "Did you mean 'horizontal'?"),
        (
            Key("DATASETS.TEST", Several(Text("a name", empty=False)), "m", ()),
            "x",
            '("x") is a string and ("x",) a tuple: write (\'x\',)',
        ),
        (Key("A", Text("a folder"), "m", ""), 2024, "Put it in quotes: '2024'"),
        (Key("A", Slot("MODEL.FPN.NAME"), "m", "fpn"), "nope", "fpn, pafpn. Your own variants are known once"),
        (Key("A", Slot("MODEL.FPN.NAME"), "m", "fpn"), "pafpm", "pafpn. Did you mean 'pafpn'? Your own variants"),
    ],
)
def test_a_problem_states_what_was_probably_meant(key, value, hint):
    cfg = CfgNode()
    key.add_to(cfg)
    set_key(cfg, key.name, value)
    assert hint in key.problem(cfg)


def test_keys_are_read_set_and_listed_by_dotted_name():
    cfg = CfgNode({"A": {"B": 1, "C": {}}, "D": 2})
    set_key(cfg, "A.B", 5)
    assert get_key(cfg, "A.B") == 5 and all_keys(cfg) == ["A.B", "A.C", "D"]
    cfg.freeze()
    with pytest.raises(AttributeError):
        set_key(cfg, "A.B", 6)


def test_an_existing_key_keeps_its_value():
    cfg = CfgNode({"A": {"B": 1}})
    Key("A.B", Number(int), "m", 3).add_to(cfg)
    assert cfg.A.B == 1


def test_the_nearest_word_is_found_ignoring_case():
    keys = ["SOLVER.BASE_LR", "SOLVER.BASE_LR_END", "MODEL.FPN.NAME"]
    assert nearest("solver.base_lr", keys) == nearest("LR.BASE_LR", keys) == "SOLVER.BASE_LR"
    assert nearest("xyzzy", keys) is None


def test_a_text_about_a_config_and_its_clones_is_logged_once(caplog):
    cfg = CfgNode({"A": 1})
    logger = logging.getLogger("retina_plugin.test")
    say_once(cfg, logger, logging.WARNING, "only once")
    say_once(cfg, logger, logging.WARNING, "only once")
    say_once(cfg.clone(), logger, logging.WARNING, "only once")
    say_once(CfgNode({"A": 1}), logger, logging.WARNING, "only once")
    assert caplog.text.count("only once") == 2
