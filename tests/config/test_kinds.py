"""Which kind of detector a config describes."""

import pytest
from support import BASE, TINY

from detectron2.modeling import META_ARCH_REGISTRY, build_model

from retina_plugin import load_config
from retina_plugin.config.kinds import has_own_pyramid, is_ours, is_retinanet
from retina_plugin.modeling import RetinaPluginNet


@pytest.mark.parametrize(
    "architecture, ours, retinanet",
    [("RetinaPluginNet", True, True), ("RetinaNet", False, True), ("GeneralizedRCNN", False, False)],
)
def test_the_architecture_decides_which_keys_are_read(architecture, ours, retinanet):
    cfg = load_config(BASE, TINY).clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = architecture
    assert (is_ours(cfg), is_retinanet(cfg)) == (ours, retinanet)


def test_a_subclass_of_the_detector_counts_as_the_plugins():
    @META_ARCH_REGISTRY.register()
    class MyRetina(RetinaPluginNet):
        pass

    try:
        cfg = load_config(BASE, [*TINY, "MODEL.META_ARCHITECTURE", "MyRetina"])
        assert is_ours(cfg) and type(build_model(cfg)) is MyRetina
    finally:
        META_ARCH_REGISTRY._obj_map.pop("MyRetina")


def test_the_backbone_decides_whether_the_pyramid_is_the_plugins():
    cfg = load_config(BASE, TINY).clone()
    cfg.defrost()
    assert has_own_pyramid(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_retina_vit_backbone"
    assert not has_own_pyramid(cfg)
