"""Detectron2's own keys that the plugin reads: which values work, and what becomes of those that it does not read."""

import functools

from detectron2.config import CfgNode, get_cfg

from retina_plugin.config.key import Key
from retina_plugin.config.values import Choice, Flag, Number, OrNone, Several, Slot, Text

NORM = Choice(("", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"))
COUNT, POSITIVE = Number(int, 0), Number(int, 1)
CHANNELS = Number(int, 1, 2**14)
NOT_NEGATIVE = Number(float, 0)
SHARE = Number(float, 0, 1)
NAMES = Several(Text("the name of a dataset", empty=False))

MODEL = [
    Key("MODEL.META_ARCHITECTURE", Slot("MODEL.META_ARCHITECTURE", "META_ARCH_REGISTRY"), "The detector: the plugin's RetinaPluginNet or a subclass of it, or one of Detectron2's.", shown=("RetinaPluginNet",)),
    Key("MODEL.DEVICE", Text("cpu, cuda, cuda:1, or another device that torch has here", empty=False), "Where the model runs; cuda becomes cpu where there is no GPU."),
    Key("MODEL.WEIGHTS", Text("a file, detectron2://... or pip://..."), "What the model starts from; empty: random numbers."),
    Key("MODEL.PIXEL_MEAN", Several(Number(), least=1), "Mean of each channel, in the order of INPUT.FORMAT; see MODEL.PIXELS_FROM.", unit="0..255"),
    Key("MODEL.PIXEL_STD", Several(Number(float, 0, open_low=True), least=1), "Standard deviation of each channel.", unit="0..255"),
    Key("MODEL.BACKBONE.NAME", Slot("MODEL.BACKBONE.NAME", "BACKBONE_REGISTRY"), "Network with its pyramid; build_retina_pyramid_backbone puts MODEL.BOTTOM_UP, MODEL.FPN and its top block together.",
        shown=("build_retina_pyramid_backbone",)),
    Key("MODEL.BACKBONE.FREEZE_AT", Number(int, 0, 5), "Stages of a ResNet that are not trained: 0 none, 1 the stem, 2 the stem and res2, ... 5 all."),
    Key("MODEL.FPN.OUT_CHANNELS", CHANNELS, "Width of every level.", unit="channels"),
    Key("MODEL.FPN.NORM", NORM, "Normalisation in the neck; empty: none."),
    Key("MODEL.FPN.FUSE_TYPE", Choice(("sum", "avg")), "How fpn and pafpn join two levels."),
    Key("MODEL.RESNETS.DEPTH", Choice((18, 34, 50, 101, 152)), "Layers of the ResNet."),
    Key("MODEL.RESNETS.NORM", NORM, "Normalisation in the ResNet."),
    Key("MODEL.RESNETS.NUM_GROUPS", Number(int, 1, 2**10), "Groups of the 3x3 convolutions; 1 for ResNet, 32 for ResNeXt."),
    Key("MODEL.RESNETS.WIDTH_PER_GROUP", CHANNELS, "Channels per group in res2.", unit="channels"),
    Key("MODEL.RESNETS.STEM_OUT_CHANNELS", CHANNELS, "Width of the stem.", unit="channels"),
    Key("MODEL.RESNETS.RES2_OUT_CHANNELS", CHANNELS, "Read by Detectron2's own ResNet only.", unit="channels"),
    Key("MODEL.RESNETS.STRIDE_IN_1X1", Flag(), "Stride of a bottleneck in its first 1x1 (MSRA's weights) or in its 3x3 (torchvision's)."),
    Key("MODEL.RESNETS.RES5_DILATION", Choice((1, 2)), "Read by Detectron2's own ResNet only."),
    Key("MODEL.RESNETS.OUT_FEATURES", Several(Text("the name of a feature map", empty=False)), "Empty: follow from MODEL.RETINANET.LEVELS."),
    Key("MODEL.ANCHOR_GENERATOR.NAME", Slot("MODEL.ANCHOR_GENERATOR.NAME", "ANCHOR_GENERATOR_REGISTRY"), "PyramidAnchorGenerator lets sizes follow from the levels.",
        shown=("PyramidAnchorGenerator", "DefaultAnchorGenerator")),
    Key("MODEL.ANCHOR_GENERATOR.SIZES", Several(Several(Number(float, 0, open_low=True), least=1)), "Sizes of each level; empty: follow from MODEL.RETINANET.LEVELS.", unit="pixels"),
    Key("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", Several(Several(Number(float, 0, open_low=True), least=1), least=1), "For all levels, or for each.", unit="height / width"),
    Key("MODEL.ANCHOR_GENERATOR.OFFSET", Number(float, 0, 1, open_high=True), "Of the first anchor's centre.", unit="strides"),
    Key("MODEL.RETINANET.NUM_CLASSES", COUNT, "Without background; 0: as many as the dataset has."),
    Key("MODEL.RETINANET.NUM_CONVS", Number(int, 0, 32), "Convolutions of each subnet before its output layer."),
    Key("MODEL.RETINANET.NORM", NORM, "Normalisation in the head; with BN and SyncBN every level keeps statistics of its own. Empty: none."),
    Key("MODEL.RETINANET.IOU_THRESHOLDS", Several(SHARE, least=1), "For max_iou: bounds, ascending.", unit="IoU", shown=([0.0, 1.0], [0.4, 0.5])),
    Key("MODEL.RETINANET.IOU_LABELS", Several(Choice((-1, 0, 1)), least=2), "For max_iou: what lies below, between and above the bounds: 0 background, -1 ignored, 1 foreground.", shown=([0, -1, 1], [-1, 0, 1])),
    Key("MODEL.RETINANET.PRIOR_PROB", Number(float, 0, 1, open_low=True, open_high=True), "Score that every anchor starts with."),
    Key("MODEL.RETINANET.SCORE_THRESH_TEST", Number(float, 0, 1, open_high=True), "Least score of a detection."),
    Key("MODEL.RETINANET.TOPK_CANDIDATES_TEST", POSITIVE, "Best-scored candidates of each level that go on to NMS."),
    Key("MODEL.RETINANET.NMS_THRESH_TEST", SHARE, "Detections of a class that overlap a better one more than this are left out.", unit="IoU"),
    Key("MODEL.RETINANET.BBOX_REG_WEIGHTS", Several(Number(float, 0, open_low=True), 4, 4), "Factors of dx, dy, dw, dh."),
    Key("MODEL.RETINANET.BBOX_REG_LOSS_TYPE", Slot("MODEL.RETINANET.BBOX_REG_LOSS_TYPE"), "The box loss."),
    Key("MODEL.RETINANET.FOCAL_LOSS_ALPHA", Number(float, high=1), "α of the focal loss; negative: no weighting."),
    Key("MODEL.RETINANET.FOCAL_LOSS_GAMMA", NOT_NEGATIVE, "γ of the focal loss."),
    Key("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", NOT_NEGATIVE, "For smooth_l1: where it turns linear; 0: L1."),
]  # fmt: skip

DATA = [
    Key("DATASETS.TRAIN", NAMES, "Registered datasets to train on."),
    Key("DATASETS.TEST", NAMES, "Registered datasets to evaluate on."),
    Key("INPUT.FORMAT", Choice(("BGR", "RGB", "L", "YUV-BT.601")), "Order of the channels; see MODEL.PIXELS_FROM."),
    Key("INPUT.MIN_SIZE_TRAIN", Several(COUNT, least=1), "Shorter side of a training image, drawn by MIN_SIZE_TRAIN_SAMPLING; 0: as it is.", unit="pixels"),
    Key("INPUT.MIN_SIZE_TRAIN_SAMPLING", Choice(("choice", "range")), "One of the sizes, or any between two."),
    Key("INPUT.MAX_SIZE_TRAIN", POSITIVE, "Longest side of a training image.", unit="pixels"),
    Key("INPUT.MIN_SIZE_TEST", COUNT, "Shorter side in evaluation and prediction; 0: as it is.", unit="pixels"),
    Key("INPUT.MAX_SIZE_TEST", POSITIVE, "Longest side there.", unit="pixels"),
    Key("INPUT.RANDOM_FLIP", Choice(("none", "horizontal", "vertical")), "Mirror training images half of the time."),
    Key("INPUT.CROP.ENABLED", Flag(), "Cut a random part out of every training image."),
    Key("INPUT.CROP.TYPE", Choice(("relative_range", "relative", "absolute", "absolute_range")), "What CROP.SIZE means."),
    Key("INPUT.CROP.SIZE", Several(Number(float, 0, open_low=True), 2, 2), "Height and width: shares of the image up to 1, or pixels for the absolute types."),
    Key("INPUT.MASK_FORMAT", Choice(("polygon", "bitmask")), "Read by Detectron2's mapper only."),
    Key("DATALOADER.NUM_WORKERS", Number(int, 0, 2**10), "Processes that load images; 0: the training's own."),
    Key("DATALOADER.ASPECT_RATIO_GROUPING", Flag(), "Batches of images of like size."),
    Key("DATALOADER.SAMPLER_TRAIN", Choice(("TrainingSampler", "RepeatFactorTrainingSampler")), "Order of the images. Detectron2's other samplers need keys that its config lacks."),
    Key("DATALOADER.REPEAT_THRESHOLD", SHARE, "For RepeatFactorTrainingSampler: images with classes rarer than this are repeated."),
    Key("DATALOADER.FILTER_EMPTY_ANNOTATIONS", Flag(), "Leave out images without objects."),
]  # fmt: skip

EVALUATION = [
    Key("TEST.EVAL_PERIOD", COUNT, "Between evaluations; 0: at the end only.", unit="iterations"),
    Key("TEST.DETECTIONS_PER_IMAGE", POSITIVE, "Most detections that are kept of an image."),
    Key("TEST.PRECISE_BN.ENABLED", Flag(), "Compute the statistics of BatchNorm anew before an evaluation."),
    Key("TEST.PRECISE_BN.NUM_ITER", POSITIVE, "Batches for that."),
]  # fmt: skip

SOLVER = [
    Key("SOLVER.LR_SCHEDULER_NAME", Slot("SOLVER.LR_SCHEDULER_NAME"), "How the learning rate runs; OneCycleLR is the plugin's."),
    Key("SOLVER.MAX_ITER", POSITIVE, "Length of the training.", unit="iterations"),
    Key("SOLVER.BASE_LR", Number(float, 0, open_low=True), "Learning rate."),
    Key("SOLVER.BASE_LR_END", NOT_NEGATIVE, "For WarmupCosineLR and OneCycleLR: learning rate at the end."),
    Key("SOLVER.MOMENTUM", Number(float, 0, 1, open_high=True), "Of SGD."),
    Key("SOLVER.NESTEROV", Flag(), "Of SGD."),
    Key("SOLVER.WEIGHT_DECAY", NOT_NEGATIVE, "Weight decay."),
    Key("SOLVER.WEIGHT_DECAY_NORM", OrNone(NOT_NEGATIVE, "as WEIGHT_DECAY"), "Weight decay of normalisation layers."),
    Key("SOLVER.WEIGHT_DECAY_BIAS", OrNone(NOT_NEGATIVE, "as WEIGHT_DECAY"), "Weight decay of biases."),
    Key("SOLVER.BIAS_LR_FACTOR", NOT_NEGATIVE, "Learning rate of biases relative to BASE_LR."),
    Key("SOLVER.GAMMA", Number(float, 0, 1), "Factor of the learning rate at each of STEPS."),
    Key("SOLVER.STEPS", Several(POSITIVE), "For WarmupMultiStepLR: when the rate falls, ascending. Those that lie beyond MAX_ITER are left out.", unit="iterations"),
    Key("SOLVER.NUM_DECAYS", POSITIVE, "For WarmupStepWithFixedGammaLR: how often the rate falls."),
    Key("SOLVER.WARMUP_FACTOR", SHARE, "Learning rate at the beginning relative to BASE_LR."),
    Key("SOLVER.WARMUP_ITERS", COUNT, "Length of the rise.", unit="iterations"),
    Key("SOLVER.WARMUP_METHOD", Choice(("linear", "constant")), "How the rate rises."),
    Key("SOLVER.RESCALE_INTERVAL", Flag(), "Whether the schedule begins after the rise."),
    Key("SOLVER.CHECKPOINT_PERIOD", POSITIVE, "Between checkpoints.", unit="iterations"),
    Key("SOLVER.IMS_PER_BATCH", POSITIVE, "Of all processes together.", unit="images"),
    Key("SOLVER.CLIP_GRADIENTS.ENABLED", Flag(), "Clip gradients."),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", Choice(("value", "norm")), "Each element, or the norm of each parameter."),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", Number(float, 0, open_low=True), "The bound."),
    Key("SOLVER.CLIP_GRADIENTS.NORM_TYPE", Number(float, 0, open_low=True), "p of the norm."),
    Key("SOLVER.AMP.ENABLED", Flag(), "See SOLVER.AMP.PRECISION."),
]  # fmt: skip

RUN = [
    Key("VERSION", Choice((2,)), "Version of Detectron2's keys."),
    Key("OUTPUT_DIR", Text("a folder", empty=False), "Where a run writes."),
    Key("SEED", Number(int, -(2**31), 2**31 - 1), "Of everything random; negative: another one every time."),
    Key("CUDNN_BENCHMARK", Flag(), "Let cuDNN try which algorithms are fastest."),
    Key("VIS_PERIOD", COUNT, "Between pictures of a training image with its boxes and predictions; 0: none.", unit="iterations"),
]  # fmt: skip

GROUPS = {"Model": MODEL, "Data": DATA, "Evaluation": EVALUATION, "Solver": SOLVER, "Run": RUN}
"""Detectron2's keys that the plugin reads, by heading."""

DETECTRON2_KEYS = {key.name: key for keys in GROUPS.values() for key in keys}
"""The same by name."""

MEANT = {
    "MODEL.ROI_HEADS.NUM_CLASSES": "MODEL.RETINANET.NUM_CLASSES (left out, it follows from the dataset)",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "MODEL.RETINANET.NMS_THRESH_TEST",
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": "MODEL.RETINANET.IOU_THRESHOLDS",
    "MODEL.ROI_HEADS.NAME": "MODEL.RETINANET.HEAD_NAME",
    "MODEL.RPN.NMS_THRESH": "MODEL.RETINANET.NMS_THRESH_TEST",
    "MODEL.RPN.IOU_THRESHOLDS": "MODEL.RETINANET.IOU_THRESHOLDS",
    "SOLVER.REFERENCE_WORLD_SIZE": "SOLVER.REFERENCE_BATCH_SIZE",
}
"""Keys that people set for a RetinaNet, which does not read them, and the ones they mean."""

NOT_READ = (
    "MODEL.MASK_ON",
    "MODEL.KEYPOINT_ON",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.ROI_",
    "MODEL.RPN.",
    "MODEL.PROPOSAL_GENERATOR.",
    "MODEL.SEM_SEG_HEAD.",
    "MODEL.PANOPTIC_FPN.",
    "TEST.AUG.",
)
"""Beginnings of keys of other detectors; set, they would have no effect."""


@functools.cache
def untouched() -> CfgNode:
    """Detectron2's defaults; not to be changed."""
    return get_cfg()
