"""Construction of the parts of the detector from a config."""

from typing import Any

from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator, build_backbone
from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.config import refuse_unresolved
from retina_plugin.modeling.assignment import ASSIGNER_REGISTRY, Assigner
from retina_plugin.modeling.head import HEAD_REGISTRY
from retina_plugin.modeling.losses import BOX_LOSS_REGISTRY, CLS_LOSS_REGISTRY
from retina_plugin.modeling.neck import PyramidLevels
from retina_plugin.modeling.precision import precision_of
from retina_plugin.registry import OPTIONS


def build_parts(cfg: CfgNode) -> dict[str, Any]:
    """Return the arguments of ``RetinaPluginNet``: the parts that a config chooses, and the values it sets.

    Args:
        cfg: resolved config, as returned by ``retina_plugin.load_config``.

    Raises:
        ValueError: if the config is not resolved, has no class count, or names an unknown variant.
    """
    refuse_unresolved(cfg)
    node = cfg.MODEL.RETINANET
    if node.NUM_CLASSES < 1:
        raise ValueError(
            f"MODEL.RETINANET.NUM_CLASSES is {node.NUM_CLASSES}: load the config with retina_plugin.load_config, "
            "which takes the number from the dataset, or set it"
        )
    backbone = build_backbone(cfg)
    features = PyramidLevels.from_config(cfg).features
    shapes = [backbone.output_shape()[name] for name in features]
    anchor_generator = build_anchor_generator(cfg, shapes)
    num_anchors = anchor_generator.num_anchors[0]
    head = _build_head(cfg, shapes, num_anchors)
    transform = getattr(head, "box2box_class", Box2BoxTransform)(weights=tuple(node.BBOX_REG_WEIGHTS))
    return {
        "backbone": backbone,
        "head": head,
        "head_in_features": features,
        "anchor_generator": anchor_generator,
        "assigner": _build_assigner(cfg, num_anchors),
        "cls_loss": _build_cls_loss(cfg),
        "box_loss": BOX_LOSS_REGISTRY.build(
            node.BBOX_REG_LOSS_TYPE, cfg=cfg, transform=transform, beta=node.SMOOTH_L1_LOSS_BETA
        ),
        "box2box_transform": transform,
        "num_classes": node.NUM_CLASSES,
        "score_thresh_test": node.SCORE_THRESH_TEST,
        "topk_candidates_test": node.TOPK_CANDIDATES_TEST,
        "nms_thresh_test": node.NMS_THRESH_TEST,
        "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
        "clip_before_nms": cfg.MODEL.RETINANET.CLIP_BEFORE_NMS,
        "class_agnostic_nms": cfg.MODEL.RETINANET.CLASS_AGNOSTIC_NMS,
        "soft_nms": cfg.MODEL.RETINANET.SOFT_NMS,
        "soft_nms_sigma": cfg.MODEL.RETINANET.SOFT_NMS_SIGMA,
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
        "channels_last": cfg.MODEL.CHANNELS_LAST,
        "precision": precision_of(cfg),
        "compile_parts": cfg.MODEL.COMPILE,
        "input_format": cfg.INPUT.FORMAT,
        "vis_period": cfg.VIS_PERIOD,
        "details_period": cfg.SOLVER.DETAILS_PERIOD,
    }


def _build_head(cfg: CfgNode, shapes: list[ShapeSpec], num_anchors: int) -> nn.Module:
    """Build MODEL.RETINANET.HEAD_NAME for levels of these shapes, with A anchors per location."""
    name = cfg.MODEL.RETINANET.HEAD_NAME
    return HEAD_REGISTRY.get(name)(cfg, shapes, num_anchors, **HEAD_REGISTRY.options_of(name, cfg))


def _build_assigner(cfg: CfgNode, num_anchors: int) -> Assigner:
    """Build MODEL.RETINANET.ASSIGNER, for A anchors per location."""
    node = cfg.MODEL.RETINANET
    return ASSIGNER_REGISTRY.build(
        cfg.MODEL.RETINANET.ASSIGNER,
        cfg=cfg,
        thresholds=node.IOU_THRESHOLDS,
        labels=node.IOU_LABELS,
        allow_low_quality_matches=cfg.MODEL.RETINANET.ALLOW_LOW_QUALITY_MATCHES,
        atss_topk=cfg.MODEL.RETINANET.ATSS_TOPK,
        num_anchors=num_anchors,
    )


def _build_cls_loss(cfg: CfgNode) -> Any:
    """Build MODEL.RETINANET.CLS_LOSS; it is offered the keys of MODEL.CLS_LOSS that no variant has declared."""
    node = cfg.MODEL.RETINANET
    offered = {
        name.lower(): value for name, value in cfg.MODEL.CLS_LOSS.items() if f"MODEL.CLS_LOSS.{name}" not in OPTIONS
    }
    return CLS_LOSS_REGISTRY.build(
        cfg.MODEL.RETINANET.CLS_LOSS, cfg=cfg, alpha=node.FOCAL_LOSS_ALPHA, gamma=node.FOCAL_LOSS_GAMMA, **offered
    )
