"""LazyConfig of Base-RetinaNet.yaml on a ResNet-50, for ``LazyConfig.load`` and ``instantiate``.

It has ``model`` only, with the constructors that the builders of the YAML config call. Values that several parts share
are defined once below; override those, or nodes such as ``model.cls_loss``.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.fpn import FPN
from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.modeling.anchors import PyramidAnchorGenerator, anchor_sizes
from retina_plugin.modeling.assignment import MaxIoUAssigner
from retina_plugin.modeling.backbone.resnet import build_resnet
from retina_plugin.modeling.head import RetinaNetHead
from retina_plugin.modeling.losses.box import SmoothL1Loss
from retina_plugin.modeling.losses.classification import FocalLoss
from retina_plugin.modeling.meta_arch import RetinaPluginNet
from retina_plugin.modeling.neck.top_block import TopBlockFromC5

levels, channels, num_classes = [3, 4, 5, 6, 7], 256, 80
strides = [2**level for level in levels]
transform = L(Box2BoxTransform)(weights=(1.0, 1.0, 1.0, 1.0))

model = L(RetinaPluginNet)(
    backbone=L(FPN)(
        bottom_up=L(build_resnet)(
            depth=50, out_features=["res3", "res4", "res5"], norm="FrozenBN", freeze_at=2, stride_in_1x1=True
        ),
        in_features=["res3", "res4", "res5"],
        out_channels=channels,
        norm="",
        top_block=L(TopBlockFromC5)(bottom_up_channels=2048, out_channels=channels, num_levels=2, last_level=5),
    ),
    head=L(RetinaNetHead)(
        input_shape=[L(ShapeSpec)(channels=channels, stride=stride) for stride in strides],
        num_classes=num_classes,
        num_anchors=9,
        num_convs=4,
        channels=0,
        norm="",
        prior_prob=0.01,
    ),
    head_in_features=[f"p{level}" for level in levels],
    anchor_generator=L(PyramidAnchorGenerator)(
        sizes=anchor_sizes(strides, scale=4.0, scales_per_octave=3),
        aspect_ratios=[[0.5, 1.0, 2.0]],
        strides=strides,
        offset=0.0,
    ),
    assigner=L(MaxIoUAssigner)(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True),
    cls_loss=L(FocalLoss)(alpha=0.25, gamma=2.0),
    box_loss=L(SmoothL1Loss)(transform=transform, beta=0.0),
    box2box_transform=transform,
    num_classes=num_classes,
    score_thresh_test=0.05,
    topk_candidates_test=1000,
    nms_thresh_test=0.5,
    max_detections=100,
    pixel_mean=[103.53, 116.28, 123.675],
    pixel_std=[1.0, 1.0, 1.0],
    channels_last=True,
    precision="auto",
)
