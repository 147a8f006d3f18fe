"""Detectron2's keys that the plugin reads."""

import re

import pytest
from support import BASE, TINY

from detectron2.config import get_cfg

from retina_plugin import load_config
from retina_plugin.config import KEYS, all_keys
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS, MEANT, untouched


def test_every_record_is_of_a_key_that_detectron2_has():
    known = set(all_keys(get_cfg()))
    assert [key for key in (*DETECTRON2_KEYS, *MEANT) if key not in known] == []
    assert not set(DETECTRON2_KEYS) & set(KEYS)
    assert untouched() == get_cfg()


@pytest.mark.parametrize("key", MEANT)
def test_the_error_for_a_key_of_a_different_detector_names_the_one_meant(key):
    value = {
        "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.6],
        "MODEL.RPN.IOU_THRESHOLDS": [0.2, 0.6],
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    }.get(key)
    value = value or (0.123 if "THRESH" in key else 3)
    with pytest.raises(ValueError, match=re.escape(f"set {MEANT[key]}")):
        load_config(BASE, [*TINY, key, value])


@pytest.mark.parametrize(
    "key, value",
    [
        ("MODEL.MASK_ON", True),
        ("MODEL.KEYPOINT_ON", True),
        ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 64),
    ],
)
def test_a_key_that_a_retinanet_does_not_read_is_logged(key, value, caplog):
    load_config(BASE, [*TINY, key, value])
    assert f"{key}: set, but a RetinaNet does not read it" in caplog.text
