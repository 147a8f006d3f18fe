"""Reading configs: keys, safety, resolution, and that every key has a reader."""

import subprocess
import sys

import pytest
from conftest import BASE, ROOT
from detectron2.config import get_cfg

from retina_plugin import add_retina_config, load_config
from retina_plugin.config import all_keys, config_from_text, dump_config

CPU = ["MODEL.DEVICE", "cpu"]
DIGITS = ROOT / "configs/digits/quickstart.yaml"


def test_adding_the_keys_leaves_detectron2s_alone_and_can_be_repeated():
    cfg, before = get_cfg(), get_cfg()
    add_retina_config(cfg)
    once = cfg.clone()
    add_retina_config(cfg)
    assert cfg == once
    assert get_cfg() == before, "the defaults of detectron2 are nobody's to change"
    for key in all_keys(before):
        a, b = cfg, before
        for part in key.split("."):
            a, b = a[part], b[part]
        assert a == b, key


def test_a_saved_config_loads_alone_and_stays_as_it_is(tmp_path):
    cfg = load_config(DIGITS, [*CPU, "SOLVER.IMS_PER_BATCH", "4"])
    text = dump_config(cfg)
    assert text.startswith("NEEDS_IMPORT_RETINA_PLUGIN: 1\n")
    (tmp_path / "config.yaml").write_text(text)
    assert dump_config(load_config(tmp_path / "config.yaml")) == dump_config(config_from_text(text)) == text
    assert cfg.is_frozen()


def test_without_the_plugin_a_config_is_refused_by_a_key_that_says_why():
    program = f"from detectron2.config import get_cfg; get_cfg().merge_from_file({str(DIGITS)!r})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode != 0
    assert "Non-existent config key: NEEDS_IMPORT_RETINA_PLUGIN" in result.stderr


def test_yaml_that_would_run_code_is_refused(tmp_path):
    (tmp_path / "bad.yaml").write_text('OUTPUT_DIR: !!python/object/apply:os.getcwd []\n')
    with pytest.raises(Exception, match="bad.yaml, line 1: the tag .* is not allowed"):
        load_config(tmp_path / "bad.yaml")


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        load_config("nowhere.yaml")


def test_all_unknown_keys_are_listed_with_the_nearest_known(tmp_path):
    (tmp_path / "typo.yaml").write_text(f"_BASE_: {BASE}\nMODEL:\n  RETINANET:\n    NUM_CLASES: 3\nSOLVR:\n  BASE_LR: 0.1\n")
    with pytest.raises(ValueError) as error:
        load_config(tmp_path / "typo.yaml", ["BASE_LR", "0.1"])
    said = str(error.value)
    assert "MODEL.RETINANET.NUM_CLASES; did you mean MODEL.RETINANET.NUM_CLASSES?" in said
    assert "SOLVR.BASE_LR; did you mean SOLVER.BASE_LR?" in said
    assert "unknown key BASE_LR; did you mean SOLVER.BASE_LR?" in said


def test_a_value_of_the_wrong_type_names_its_key():
    with pytest.raises(ValueError, match="MODEL.RETINANET.LEVELS"):
        load_config(DIGITS, ["MODEL.RETINANET.LEVELS", "abc"])
