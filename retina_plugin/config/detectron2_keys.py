"""Detectron2's own keys that the plugin reads, the values that work, and how keys that it does not read are handled."""

import functools

from detectron2.config import CfgNode, get_cfg

from retina_plugin.config.key import Key
from retina_plugin.config.values import Choice, Flag, Number, OrNone, Several, Slot, Text

NORM = Choice(("", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"))
COUNT, POSITIVE = Number(int, 0), Number(int, 1)
CHANNELS = Number(int, 1, 2**14)
NOT_NEGATIVE = Number(float, 0)
SHARE = Number(float, 0, 1)
ABOVE_ZERO = Number(float, 0, open_low=True)
NAMES = Several(Text("the name of a dataset", empty=False))

MODEL = [
    Key("MODEL.META_ARCHITECTURE", Slot("MODEL.META_ARCHITECTURE", "META_ARCH_REGISTRY"),
        "The detector: the plugin's RetinaPluginNet or a subclass of it, or one of Detectron2's.",
        shown=("RetinaPluginNet",)),
    Key("MODEL.DEVICE", Text("cpu, cuda, cuda:1, or another device that torch supports here", empty=False),
        "Device that the model runs on; cuda becomes cpu where there is no GPU."),
    Key("MODEL.WEIGHTS", Text("a file, detectron2://... or pip://..."),
        "Weights that training or inference starts from; empty: random initialisation."),
    Key("MODEL.PIXEL_MEAN", Several(Number(), least=1),
        "Mean of each channel, in the order of INPUT.FORMAT; see MODEL.PIXELS_FROM.", unit="0..255"),
    Key("MODEL.PIXEL_STD", Several(ABOVE_ZERO, least=1),
        "Standard deviation of each channel, in the order of INPUT.FORMAT; see MODEL.PIXELS_FROM.", unit="0..255"),
    Key("MODEL.BACKBONE.NAME", Slot("MODEL.BACKBONE.NAME", "BACKBONE_REGISTRY"),
        "Network including its pyramid; build_retina_pyramid_backbone combines MODEL.BOTTOM_UP, MODEL.FPN and its top "
        "block.", shown=("build_retina_pyramid_backbone",)),
    Key("MODEL.BACKBONE.FREEZE_AT", Number(int, 0, 5),
        "Number of ResNet stages that are not trained: 0 none, 1 the stem, 2 the stem and res2, ... 5 all."),
    Key("MODEL.FPN.OUT_CHANNELS", CHANNELS, "Width of every pyramid level.", unit="channels"),
    Key("MODEL.FPN.NORM", NORM, "Normalisation in the neck; empty: none."),
    Key("MODEL.FPN.FUSE_TYPE", Choice(("sum", "avg")), "For fpn and pafpn: whether two levels are added or averaged."),
    Key("MODEL.RESNETS.DEPTH", Choice((18, 34, 50, 101, 152)), "Number of layers of the ResNet.", unit="layers"),
    Key("MODEL.RESNETS.NORM", NORM, "Normalisation in the ResNet; empty: none."),
    Key("MODEL.RESNETS.NUM_GROUPS", Number(int, 1, 2**10),
        "Number of groups of the 3x3 convolutions; 1 for ResNet, 32 for ResNeXt."),
    Key("MODEL.RESNETS.WIDTH_PER_GROUP", CHANNELS, "Channels per group in res2.", unit="channels"),
    Key("MODEL.RESNETS.STEM_OUT_CHANNELS", CHANNELS, "Width of the stem.", unit="channels"),
    Key("MODEL.RESNETS.RES2_OUT_CHANNELS", CHANNELS,
        "Output width of res2; read by Detectron2's own ResNet only.", unit="channels"),
    Key("MODEL.RESNETS.STRIDE_IN_1X1", Flag(),
        "Whether the first 1x1 convolution of a bottleneck has the stride (MSRA's weights) or its 3x3 convolution "
        "(torchvision's weights)."),
    Key("MODEL.RESNETS.RES5_DILATION", Choice((1, 2)), "Dilation of res5; read by Detectron2's own ResNet only."),
    Key("MODEL.RESNETS.OUT_FEATURES", Several(Text("the name of a feature map", empty=False)),
        "Feature maps that Detectron2's own ResNet outputs; empty: derived from MODEL.RETINANET.LEVELS."),
    Key("MODEL.ANCHOR_GENERATOR.NAME", Slot("MODEL.ANCHOR_GENERATOR.NAME", "ANCHOR_GENERATOR_REGISTRY"),
        "The anchor generator; PyramidAnchorGenerator can derive the sizes from the levels.",
        shown=("PyramidAnchorGenerator", "DefaultAnchorGenerator")),
    Key("MODEL.ANCHOR_GENERATOR.SIZES", Several(Several(ABOVE_ZERO, least=1)),
        "Anchor sizes (square root of the area), one list per level; empty: derived from MODEL.RETINANET.LEVELS.",
        unit="pixels"),
    Key("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", Several(Several(ABOVE_ZERO, least=1), least=1),
        "Anchor aspect ratios: one list for all levels, or one list per level.", unit="height / width"),
    Key("MODEL.ANCHOR_GENERATOR.OFFSET", Number(float, 0, 1, open_high=True),
        "Offset of the first anchor's centre from the top-left corner of the image.", unit="strides"),
    Key("MODEL.RETINANET.NUM_CLASSES", COUNT,
        "Number of classes without background; 0: taken from the dataset.", unit="classes"),
    Key("MODEL.RETINANET.NUM_CONVS", Number(int, 0, 32),
        "Number of convolutions of each subnet before its output layer."),
    Key("MODEL.RETINANET.NORM", NORM,
        "Normalisation in the head; with BN and SyncBN, every level has its own statistics. Empty: none."),
    Key("MODEL.RETINANET.IOU_THRESHOLDS", Several(SHARE, least=1),
        "For max_iou: IoU thresholds between the labels of MODEL.RETINANET.IOU_LABELS, ascending.",
        unit="IoU", shown=([0.0, 1.0], [0.4, 0.5])),
    Key("MODEL.RETINANET.IOU_LABELS", Several(Choice((-1, 0, 1)), least=2),
        "For max_iou: labels of anchors below, between and above the thresholds: 0 background, -1 ignored, "
        "1 foreground.", shown=([0, -1, 1], [-1, 0, 1])),
    Key("MODEL.RETINANET.PRIOR_PROB", Number(float, 0, 1, open_low=True, open_high=True),
        "Score of every anchor and class at initialisation.", unit="probability"),
    Key("MODEL.RETINANET.SCORE_THRESH_TEST", Number(float, 0, 1, open_high=True),
        "Minimum score of a detection.", unit="score"),
    Key("MODEL.RETINANET.TOPK_CANDIDATES_TEST", POSITIVE,
        "Maximum number of candidates per level that are passed to NMS, those with the highest scores.",
        unit="candidates"),
    Key("MODEL.RETINANET.NMS_THRESH_TEST", SHARE,
        "Detections that overlap a higher-scoring one of the same class by more than this are dropped.", unit="IoU"),
    Key("MODEL.RETINANET.BBOX_REG_WEIGHTS", Several(ABOVE_ZERO, 4, 4),
        "Factors by which the regression targets dx, dy, dw and dh are multiplied."),
    Key("MODEL.RETINANET.BBOX_REG_LOSS_TYPE", Slot("MODEL.RETINANET.BBOX_REG_LOSS_TYPE"), "The box loss."),
    Key("MODEL.RETINANET.FOCAL_LOSS_ALPHA", Number(float, high=1),
        "α of the focal loss; negative: no weighting of foreground and background."),
    Key("MODEL.RETINANET.FOCAL_LOSS_GAMMA", NOT_NEGATIVE, "γ of the focal loss."),
    Key("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", NOT_NEGATIVE,
        "For smooth_l1: absolute error at which the loss turns from quadratic to linear; 0: L1."),
]  # fmt: skip

DATA = [
    Key("DATASETS.TRAIN", NAMES, "Registered datasets to train on."),
    Key("DATASETS.TEST", NAMES, "Registered datasets to evaluate on."),
    Key("INPUT.FORMAT", Choice(("BGR", "RGB", "L", "YUV-BT.601")),
        "Order of the channels (L: grey, one channel); see MODEL.PIXELS_FROM."),
    Key("INPUT.MIN_SIZE_TRAIN", Several(COUNT, least=1),
        "Shorter side of a training image, drawn as INPUT.MIN_SIZE_TRAIN_SAMPLING says; 0: not resized.",
        unit="pixels"),
    Key("INPUT.MIN_SIZE_TRAIN_SAMPLING", Choice(("choice", "range")),
        "How the shorter side is drawn. choice: one of INPUT.MIN_SIZE_TRAIN. range: any size between its two."),
    Key("INPUT.MAX_SIZE_TRAIN", POSITIVE, "Maximum of the longer side of a training image.", unit="pixels"),
    Key("INPUT.MIN_SIZE_TEST", COUNT,
        "Shorter side of an image in evaluation and prediction; 0: not resized.", unit="pixels"),
    Key("INPUT.MAX_SIZE_TEST", POSITIVE,
        "Maximum of the longer side of an image in evaluation and prediction.", unit="pixels"),
    Key("INPUT.RANDOM_FLIP", Choice(("none", "horizontal", "vertical")),
        "Direction in which training images are mirrored, with probability 0.5."),
    Key("INPUT.CROP.ENABLED", Flag(), "Train on a random crop of every training image."),
    Key("INPUT.CROP.TYPE", Choice(("relative_range", "relative", "absolute", "absolute_range")),
        "Meaning of INPUT.CROP.SIZE. relative: fractions of the image's height and width. relative_range: minima of "
        "these fractions, which are drawn between them and 1. absolute: height and width in pixels. absolute_range: "
        "minimum and maximum of both sides in pixels."),
    Key("INPUT.CROP.SIZE", Several(ABOVE_ZERO, 2, 2),
        "Size of the crop, in the unit of INPUT.CROP.TYPE: fractions of at most 1 for the relative types, whole pixels "
        "for the absolute types."),
    Key("INPUT.MASK_FORMAT", Choice(("polygon", "bitmask")),
        "Format of instance masks; read by Detectron2's mapper only."),
    Key("DATALOADER.NUM_WORKERS", Number(int, 0, 2**10),
        "Number of processes that load images, per training process; 0: the training process loads them.",
        unit="processes"),
    Key("DATALOADER.ASPECT_RATIO_GROUPING", Flag(), "Put images of similar size into the same batch."),
    Key("DATALOADER.SAMPLER_TRAIN", Choice(("TrainingSampler", "RepeatFactorTrainingSampler")),
        "How training images are sampled. Detectron2's other samplers need keys that its config lacks."),
    Key("DATALOADER.REPEAT_THRESHOLD", SHARE,
        "For RepeatFactorTrainingSampler: images with a class that occurs in a smaller fraction of the images are "
        "repeated.", unit="fraction of the images"),
    Key("DATALOADER.FILTER_EMPTY_ANNOTATIONS", Flag(), "Leave images without objects out of training."),
]  # fmt: skip

EVALUATION = [
    Key("TEST.EVAL_PERIOD", COUNT, "Period of evaluations during training; 0: only at the end.", unit="iterations"),
    Key("TEST.DETECTIONS_PER_IMAGE", POSITIVE,
        "Maximum number of detections per image, those with the highest scores.", unit="detections"),
    Key("TEST.AUG.ENABLED", Flag(),
        "Test-time augmentation: detect at each of TEST.AUG.MIN_SIZES, with TEST.AUG.FLIP also in the mirrored image, "
        "and merge. Applies to every evaluation and to prediction."),
    Key("TEST.AUG.MIN_SIZES", Several(POSITIVE, least=1), "Shorter sides of the image.", unit="pixels"),
    Key("TEST.AUG.MAX_SIZE", POSITIVE, "Longest side of the image.", unit="pixels"),
    Key("TEST.AUG.FLIP", Flag(), "Also detect in the mirrored image."),
    Key("TEST.PRECISE_BN.ENABLED", Flag(),
        "Recompute the statistics of BatchNorm layers on training images before an evaluation."),
    Key("TEST.PRECISE_BN.NUM_ITER", POSITIVE, "Number of batches used by TEST.PRECISE_BN.", unit="batches"),
]  # fmt: skip

SOLVER = [
    Key("SOLVER.LR_SCHEDULER_NAME", Slot("SOLVER.LR_SCHEDULER_NAME"),
        "The learning-rate schedule; OneCycleLR is the plugin's."),
    Key("SOLVER.MAX_ITER", POSITIVE, "Length of the training.", unit="iterations"),
    Key("SOLVER.BASE_LR", ABOVE_ZERO, "Learning rate after the warm-up."),
    Key("SOLVER.BASE_LR_END", NOT_NEGATIVE, "For WarmupCosineLR and OneCycleLR: learning rate at the end."),
    Key("SOLVER.MOMENTUM", Number(float, 0, 1, open_high=True), "For SGD: momentum."),
    Key("SOLVER.NESTEROV", Flag(), "For SGD: use Nesterov momentum."),
    Key("SOLVER.WEIGHT_DECAY", NOT_NEGATIVE, "Weight decay."),
    Key("SOLVER.WEIGHT_DECAY_NORM", OrNone(NOT_NEGATIVE, "as WEIGHT_DECAY"),
        "Weight decay of normalisation layers."),
    Key("SOLVER.WEIGHT_DECAY_BIAS", OrNone(NOT_NEGATIVE, "as WEIGHT_DECAY"), "Weight decay of biases."),
    Key("SOLVER.BIAS_LR_FACTOR", NOT_NEGATIVE, "Learning rate of biases relative to SOLVER.BASE_LR."),
    Key("SOLVER.GAMMA", SHARE,
        "For WarmupMultiStepLR and WarmupStepWithFixedGammaLR: factor of the learning rate at each drop."),
    Key("SOLVER.STEPS", Several(POSITIVE),
        "For WarmupMultiStepLR: iterations at which the learning rate drops, ascending. Those at or after "
        "SOLVER.MAX_ITER are removed.", unit="iterations"),
    Key("SOLVER.NUM_DECAYS", POSITIVE,
        "For WarmupStepWithFixedGammaLR: number of drops of the learning rate.", unit="drops"),
    Key("SOLVER.WARMUP_FACTOR", SHARE, "Learning rate at the start of the warm-up relative to SOLVER.BASE_LR."),
    Key("SOLVER.WARMUP_ITERS", COUNT, "Length of the warm-up.", unit="iterations"),
    Key("SOLVER.WARMUP_METHOD", Choice(("linear", "constant")),
        "Course of the learning rate during the warm-up; OneCycleLR does not read it."),
    Key("SOLVER.RESCALE_INTERVAL", Flag(),
        "Run the whole schedule after the warm-up instead of from iteration 0; OneCycleLR always does."),
    Key("SOLVER.CHECKPOINT_PERIOD", POSITIVE, "Period of checkpoints.", unit="iterations"),
    Key("SOLVER.IMS_PER_BATCH", POSITIVE, "Images per batch, of all processes together.", unit="images"),
    Key("SOLVER.CLIP_GRADIENTS.ENABLED", Flag(), "Clip gradients."),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", Choice(("value", "norm")),
        "What is clipped. value: each element of a gradient. norm: the norm of each parameter's gradient."),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", ABOVE_ZERO, "Largest absolute value or norm after clipping."),
    Key("SOLVER.CLIP_GRADIENTS.NORM_TYPE", ABOVE_ZERO, "For CLIP_TYPE norm: p of the p-norm."),
    Key("SOLVER.AMP.ENABLED", Flag(), "Mixed precision; see SOLVER.AMP.PRECISION."),
]  # fmt: skip

RUN = [
    Key("VERSION", Choice((2,)), "Version of Detectron2's keys."),
    Key("OUTPUT_DIR", Text("a folder", empty=False), "Folder that a run writes to."),
    Key("SEED", Number(int, -(2**31), 2**31 - 1), "Seed of all random numbers; negative: a different one in each run."),
    Key("CUDNN_BENCHMARK", Flag(),
        "Let cuDNN measure which algorithms are fastest, in training; ignored with DETERMINISTIC."),
    Key("VIS_PERIOD", COUNT,
        "Period of pictures of a training image with its ground truth and predictions; 0: none.", unit="iterations"),
]  # fmt: skip

GROUPS = {"Model": MODEL, "Data": DATA, "Evaluation": EVALUATION, "Solver": SOLVER, "Run": RUN}
"""Detectron2's keys that the plugin reads, by heading."""

DETECTRON2_KEYS = {key.name: key for keys in GROUPS.values() for key in keys}
"""Detectron2's keys that the plugin reads, by name."""

MEANT = {
    "MODEL.ROI_HEADS.NUM_CLASSES": "MODEL.RETINANET.NUM_CLASSES (if it is not set, it follows from the dataset)",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "MODEL.RETINANET.NMS_THRESH_TEST",
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": "MODEL.RETINANET.IOU_THRESHOLDS",
    "MODEL.ROI_HEADS.NAME": "MODEL.RETINANET.HEAD_NAME",
    "MODEL.RPN.NMS_THRESH": "MODEL.RETINANET.NMS_THRESH_TEST",
    "MODEL.RPN.IOU_THRESHOLDS": "MODEL.RETINANET.IOU_THRESHOLDS",
    "SOLVER.REFERENCE_WORLD_SIZE": "SOLVER.REFERENCE_BATCH_SIZE",
}
"""Keys that people set for a RetinaNet although it does not read them, and the keys they mean."""

NOT_READ = (
    "MODEL.MASK_ON",
    "MODEL.KEYPOINT_ON",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.ROI_",
    "MODEL.RPN.",
    "MODEL.PROPOSAL_GENERATOR.",
    "MODEL.SEM_SEG_HEAD.",
    "MODEL.PANOPTIC_FPN.",
)
"""Prefixes of keys of other detectors, which have no effect on a RetinaNet."""


@functools.cache
def untouched() -> CfgNode:
    """Return Detectron2's defaults. The object is shared: do not modify it."""
    return get_cfg()
