"""Construction of the parts of the detector from a config."""

import inspect

import pytest
from support import tiny_cfg

from retina_plugin.modeling.atss import ATSSAssigner
from retina_plugin.modeling.head import SharedTowerHead
from retina_plugin.modeling.losses.box import GIoULoss
from retina_plugin.modeling.losses.mining import GHMLoss
from retina_plugin.modeling.meta_arch import RetinaPluginNet
from retina_plugin.modeling.parts import build_parts


def test_every_argument_of_the_meta_architecture_is_set():
    arguments = set(inspect.signature(RetinaPluginNet.__init__).parameters) - {"self"}
    assert set(build_parts(tiny_cfg())) == arguments


def test_parts_are_chosen_by_name_with_their_options():
    chosen = {"HEAD_NAME": "shared_tower", "ASSIGNER": "atss", "CLS_LOSS": "ghm", "BBOX_REG_LOSS_TYPE": "giou"}
    opts = [x for key, name in chosen.items() for x in (f"MODEL.RETINANET.{key}", name)]
    parts = build_parts(tiny_cfg(*opts, "MODEL.CLS_LOSS.GHM_BINS", 7, "MODEL.RETINANET.ATSS_TOPK", 5))
    kinds = {"head": SharedTowerHead, "assigner": ATSSAssigner, "cls_loss": GHMLoss, "box_loss": GIoULoss}
    assert {name: type(parts[name]) for name in kinds} == kinds
    assert parts["cls_loss"].bins == 7 and parts["assigner"].candidates == 5 * 9


def test_a_config_without_a_class_count_is_refused():
    cfg = tiny_cfg()
    cfg.defrost()
    cfg.MODEL.RETINANET.NUM_CLASSES = 0
    with pytest.raises(ValueError, match="NUM_CLASSES"):
        build_parts(cfg)
