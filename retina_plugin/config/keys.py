"""Every config key that the plugin adds, as one record each: the source of defaults, checks, help and docs/keys.md."""

from detectron2.config import CfgNode, get_cfg

from retina_plugin.config.key import Key, all_keys
from retina_plugin.config.values import Choice, Flag, Number, Operations, Several, Slot, Text
from retina_plugin.registry import OPTIONS

CONFIG_VERSION = 1
"""Value of NEEDS_IMPORT_RETINA_PLUGIN: the version of the plugin's keys."""

SHARE = Number(float, 0, 1)
COUNT = Number(int, 0)
LAYERS = 32
"""Largest number of repetitions of a part; published networks have at most 8."""

FIRST = [
    Key("NEEDS_IMPORT_RETINA_PLUGIN", Choice((CONFIG_VERSION,)),
        "First key of every config file of the plugin. Without `import retina_plugin`, Detectron2 rejects the file and "
        "its error message shows this name. The value is the version of the plugin's keys.", CONFIG_VERSION),
    Key("IMPORTS", Several(Text("a module, such as my_package.losses", empty=False)),
        "Modules that register your own variants. They are imported when the config is read, from Python's search path "
        "or the working directory. Modules named by a checkpoint are imported only if the caller allows it.",
        (), shown=((),)),
]  # fmt: skip

MODEL = [
    Key("MODEL.RETINANET.LEVELS", Several(Number(int, 2, 9), least=1),
        "Pyramid levels: level l has stride 2**l. Consecutive, ascending, starting at 5 or below. Strides, top block, "
        "anchor sizes and head inputs follow from them. Detectron2's keys for the same facts "
        "(MODEL.RETINANET.IN_FEATURES, MODEL.FPN.IN_FEATURES, MODEL.ANCHOR_GENERATOR.SIZES) are empty in "
        "Base-RetinaNet.yaml.",
        [3, 4, 5, 6, 7], shown=([2, 3, 4, 5, 6, 7, 8, 9], [5], [3, 4, 5])),
    Key("MODEL.RETINANET.HEAD_NAME", Slot("MODEL.RETINANET.HEAD_NAME"),
        "The head. shared_tower: one tower for both outputs. distribution: for each side of a box, the probabilities "
        "of distances; MODEL.RETINANET.BBOX_REG_LOSS_TYPE distribution then adds their focal loss.", "retinanet"),
    Key("MODEL.RETINANET.HEAD_CHANNELS", Number(int, 0, 2**14),
        "Width of the head's convolutions; 0: same as the pyramid levels.", 0, "channels"),
    Key("MODEL.RETINANET.CLS_LOSS", Slot("MODEL.RETINANET.CLS_LOSS"), "The classification loss.", "focal"),
    Key("MODEL.RETINANET.ASSIGNER", Slot("MODEL.RETINANET.ASSIGNER"),
        "The assigner, which decides which anchors are foreground.", "max_iou"),
    Key("MODEL.RETINANET.ALLOW_LOW_QUALITY_MATCHES", Flag(),
        "For max_iou: also match every ground-truth box to its best anchor(s), even below the foreground threshold.",
        True),
    Key("MODEL.RETINANET.ATSS_TOPK", Number(int, 1),
        "For atss: candidate locations per ground-truth box on each level.", 9, "locations"),
    Key("MODEL.CLS_LOSS.FOCAL_STAR_GAMMA", Number(float, 0, open_low=True),
        "For focal_star: γ. (focal and balanced_cross_entropy read MODEL.RETINANET.FOCAL_LOSS_ALPHA and "
        "FOCAL_LOSS_GAMMA.)", 2.0),
    Key("MODEL.CLS_LOSS.FOCAL_STAR_BETA", Number(), "For focal_star: β.", 1.0),
    Key("MODEL.RETINANET.CLIP_BEFORE_NMS", Flag(),
        "Clip boxes to the image before non-maximum suppression, as torchvision does, instead of after it.", False),
    Key("MODEL.RETINANET.CLASS_AGNOSTIC_NMS", Flag(),
        "Non-maximum suppression compares boxes of different classes as well: at most one box per object.", False),
    Key("MODEL.RETINANET.SOFT_NMS", Choice(("", "linear", "gaussian")),
        "Lower the scores of boxes that overlap better ones instead of dropping them (Bodla et al. 2017). linear reads "
        "MODEL.RETINANET.NMS_THRESH_TEST, gaussian MODEL.RETINANET.SOFT_NMS_SIGMA; empty: drop them.", ""),
    Key("MODEL.RETINANET.SOFT_NMS_SIGMA", Number(float, 0, open_low=True), "For SOFT_NMS gaussian: σ.", 0.5),
    Key("MODEL.CLS_LOSS.OHEM_BATCH_SIZE", Number(int, 1),
        "For ohem and ohem_1to3: maximum number of anchors to train on; ohem_1to3 needs at least 4.",
        256, "anchors per image"),
    Key("MODEL.CLS_LOSS.OHEM_NMS_THRESH", Number(float, 0, 1, open_low=True),
        "For ohem and ohem_1to3: drop an anchor if its predicted box overlaps that of a harder anchor by more than "
        "this; 1: no NMS.", 0.7, "IoU"),
    Key("MODEL.CLS_LOSS.GHM_BINS", Number(int, 1, 2**16), "For ghm: number of bins of the gradient norm.", 30),
    Key("MODEL.CLS_LOSS.QUALITY_BETA", Number(float, 0), "For quality_focal: β.", 2.0),
    Key("MODEL.CLS_LOSS.VARIFOCAL_ALPHA", Number(float, 0), "For varifocal: α.", 0.75),
    Key("MODEL.CLS_LOSS.VARIFOCAL_GAMMA", Number(float, 0), "For varifocal: γ.", 2.0),
    Key("MODEL.ANCHOR_GENERATOR.SCALE", Number(float, 0, open_low=True),
        "Size of the smallest anchor of a level: 4 means 32 px at P3.", 4.0, "strides of the level"),
    Key("MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE", Number(int, 1, LAYERS),
        "Anchor sizes per level, spaced evenly up to the next level's: 3 means factors 2**0, 2**(1/3) and 2**(2/3).",
        3),
    Key("MODEL.FPN.NAME", Slot("MODEL.FPN.NAME"), "The neck.", "fpn"),
    Key("MODEL.FPN.BIFPN_LAYERS", Number(int, 1, LAYERS),
        "For bifpn: number of layers, each one top-down and one bottom-up pass.", 3),
    Key("MODEL.FPN.BIFPN_NORM", Choice(("BN", "", "GN", "SyncBN", "FrozenBN")),
        "For bifpn: normalisation after its convolutions, in place of MODEL.FPN.NORM; EfficientDet uses BN; "
        "empty: none.", "BN"),
    Key("MODEL.FPN.EXTRA_CONVS", Number(int, 0, LAYERS),
        "Additional 3x3 convolutions with ReLU on every level, not shared between levels.", 0),
    Key("MODEL.FPN.TOP_BLOCK", Slot("MODEL.FPN.TOP_BLOCK"),
        "How the levels above the backbone's are computed.", "conv_c5"),
    Key("MODEL.BOTTOM_UP.NAME", Slot("MODEL.BOTTOM_UP.NAME", "BACKBONE_REGISTRY"),
        "Network below the neck: any entry of Detectron2's BACKBONE_REGISTRY that outputs res2..res5.",
        "build_retina_resnet",
        shown=("build_retina_resnet", "build_retina_timm", "build_retina_torchvision", "build_retina_detectron2",
               "build_resnet_backbone")),
    Key("MODEL.TIMM.NAME", Text("a timm model name", empty=False),
        "For build_retina_timm: the network.", "tf_efficientnet_lite0"),
    Key("MODEL.TORCHVISION.NAME", Text("a torchvision classifier", empty=False),
        "For build_retina_torchvision: the network.", "mobilenet_v2"),
    Key("MODEL.DETECTRON2.NAME",
        Choice(("regnetx_400mf", "regnetx_4gf", "swin_t", "swin_s", "swin_b", "vit_ti", "vit_s", "vit_b")),
        "For build_retina_detectron2: a RegNet or Swin of Detectron2. For MODEL.BACKBONE.NAME "
        "build_retina_vit_backbone: a plain ViT.", "swin_t", shown=("swin_t",)),
    Key("MODEL.PIXELS_FROM", Choice(("weights", "config")),
        "Source of MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT. weights: the values MODEL.WEIGHTS were trained "
        "with, if these are known and the three keys have Detectron2's defaults. config: the three keys as they are.",
        "weights"),
    Key("MODEL.FREEZE", Several(Text("a pattern of parameter names", empty=False)),
        "Parameters that are not trained, as shell-style patterns of their names: backbone.bottom_up.*, *.bias.",
        (), shown=((), ("backbone.fpn_*",))),
    Key("MODEL.CHECKPOINT_GRADIENTS", Flag(),
        "Recompute the activations of the network below the pyramid in the backward pass instead of storing them: "
        "less memory, more time.", False),
    Key("MODEL.CHANNELS_LAST", Flag(),
        "Use the channels-last memory format for images and convolutions (faster on CPU and GPU).", True),
    Key("MODEL.COMPILE", Several(Choice(("backbone", "head", "cls_loss")), most=3),
        "Parts to compile with torch.compile. The first steps take a minute or two longer, later steps less time.",
        []),
]  # fmt: skip

DATA = [
    Key("DATASETS.FINAL_TEST", Several(Text("the name of a dataset", empty=False)),
        "Datasets evaluated once, after training, with model_best.pth if it exists; same format as DATASETS.TEST.",
        ()),
    Key("DATASETS.ON_PROBLEM", Choice(("drop", "refuse")),
        "What training does with a dataset that has problems. drop: leave out what is wrong and log every case. "
        "refuse: stop and list the problems.", "drop"),
    Key("DATASETS.CHECK_IMAGES", Flag(),
        "Before training, check the first and last bytes of every training image. Images that are missing, truncated "
        "or of a different size than their annotations state are handled as DATASETS.ON_PROBLEM says.", True),
    Key("DATASETS.ON_BROKEN_IMAGE", Choice(("skip", "stop")),
        "What happens if an image turns out to be broken when training decodes it. skip: log it once and use a "
        "different image in its place (which one follows from SEED and the position). stop: end the training.",
        "skip"),
    Key("INPUT.MAX_IMAGE_PIXELS", Number(int, 1),
        "Images with more pixels are left out by `retina data check`, training and prediction alike, before decoding: "
        "a small file can claim to be huge. The default is the size at which Pillow suspects an attack; such an image "
        "takes 512 MiB as RGB.", 178_956_970, "pixels"),
    Key("INPUT.VALUE_RANGE", Several(Number(float), most=2),
        "Values (low, high) that are mapped to 0 and 255 in images with more than 8 bits per channel or with floats; "
        "applies to every image of the dataset and to prediction. 8-bit images are unchanged. Empty: the full range "
        "of uint16; floats and other types are then refused.", (), shown=((), (0.0, 4095.0))),
    Key("INPUT.MAPPER", Slot("INPUT.MAPPER"),
        "Maps a record of a dataset to the input of the network. detectron2 is Detectron2's DatasetMapper, which does "
        "not read INPUT.READER, INPUT.COLOR_JITTER and similar keys of the plugin.", "retina"),
    Key("INPUT.READER", Choice(("opencv", "detectron2")),
        "Library that reads and resizes images: opencv (several times faster) or detectron2 (Pillow, with exactly the "
        "pixels that Detectron2's checkpoints were trained on). load_predictor follows this key; Detectron2's "
        "DefaultPredictor alone always resizes with Pillow.", "opencv"),
    Key("INPUT.COLOR_JITTER", SHARE,
        "Strength s of the random brightness, contrast and saturation factors in training, each from 1 - s to 1 + s; "
        "0: off.", 0.0),
    Key("INPUT.RANDOM_FLIP_VERTICAL", Flag(),
        "Also flip training images upside down with probability 0.5 (INPUT.RANDOM_FLIP flips in one direction only).",
        False),
    Key("INPUT.ROTATE_90", Flag(), "Rotate training images by 0, 90, 180 or 270 degrees, chosen at random.", False),
    Key("INPUT.AUGMENTATIONS", Operations(),
        "Further augmentations of training images, after the others: operations of torchvision.transforms.v2 by name, "
        "with their arguments, such as [RandomGrayscale, {RandomAffine: {degrees: 10, scale: [0.8, 1.2]}}].", ()),
    Key("INPUT.TILES.SIZE", COUNT,
        "Side of the square that is cut out of a training image, resized to INPUT.MIN_SIZE_TRAIN: the counterpart of "
        "TEST.TILES.SIZE. 0: the whole image.", 0, "pixels of the image"),
    Key("INPUT.TILES.ANYWHERE", SHARE,
        "Share of the squares, or of the parts that INPUT.SCALE_JITTER cuts out, that may lie anywhere; the others "
        "contain a random object of the image, whole.", 0.2),
    Key("INPUT.SCALE_JITTER", Several(Number(float, 0, 16, open_low=True), most=2),
        "Large-scale jitter (Ghiasi et al. 2021): (low, high) of a random factor by which a training image is enlarged "
        "or shrunk in addition; what is then larger than before is cut off. Empty: off.", (),
        shown=((), (0.5, 2.0))),
    Key("INPUT.MOSAIC", SHARE, "Probability that a training image becomes part of a mosaic of four images.", 0.0),
    Key("INPUT.MIXUP", SHARE, "Probability that a training image is blended with another training image.", 0.0),
    Key("INPUT.COPY_PASTE", SHARE,
        "Probability that objects of another training image are pasted into free places of a training image, cut out "
        "along their boxes.", 0.0),
    Key("INPUT.MIXED_SHARE", SHARE,
        "Share of the training in which INPUT.MOSAIC, INPUT.MIXUP and INPUT.COPY_PASTE are on; the rest, at its end, "
        "sees images as they are.", 1.0),
    Key("DATALOADER.EMPTY_IMAGES", SHARE,
        "Fraction of the images without objects to train on if DATALOADER.FILTER_EMPTY_ANNOTATIONS is False; which "
        "ones follows from SEED.", 1.0),
]  # fmt: skip

EVALUATION = [
    Key("TEST.EVALUATOR", Slot("TEST.EVALUATOR"),
        "The metrics and their implementation. hotcoco: COCO's metrics (fast). detectron2: COCO's metrics by "
        "COCOEvaluator with pycocotools. voc: AP50 as the area under the curve and with eleven points. "
        "lvis: LVIS's metrics.", "hotcoco", shown=("hotcoco", "detectron2")),
    Key("TEST.IMS_PER_BATCH", Number(int, 1),
        "Images per batch and process in evaluation. Images of different sizes are padded to the largest of the "
        "batch, which changes what the convolutions see at the right and bottom edges and thus slightly changes the "
        "detections.", 1, "images"),
    Key("TEST.REPORT", Flag(),
        "Write OUTPUT_DIR/report.html, a page about the run, after every evaluation.", True),
    Key("TEST.BEST_METRIC", Text("task/metric"),
        "Metric on the first dataset of DATASETS.TEST that selects model_best.pth, such as bbox/AP; empty: "
        "model_best.pth is not written. Needs TEST.EVAL_PERIOD above 0.", "bbox/AP"),
    Key("TEST.EARLY_STOP_PATIENCE", COUNT,
        "Stop training after this many evaluations without a better TEST.BEST_METRIC; 0: never.", 0, "evaluations"),
    Key("TEST.VALIDATION_LOSS", Flag(), "Also compute the losses on DATASETS.TEST at every evaluation.", False),
    Key("TEST.SIZES", Several(Number(int, 1)),
        "Additional shorter sides of the image to evaluate at, besides INPUT.MIN_SIZE_TEST: with --eval-only and "
        "after training. INPUT.MAX_SIZE_TEST is scaled accordingly.", (), "pixels"),
    Key("TEST.TILES.SIZE", COUNT,
        "Side of the square tiles that an image is cut into for evaluation and prediction, each resized to "
        "INPUT.MIN_SIZE_TEST: for large images with small objects. 0: no tiles.", 0, "pixels of the image"),
    Key("TEST.TILES.OVERLAP", Number(float, 0, 0.9),
        "Overlap of neighbouring tiles, as a fraction of TEST.TILES.SIZE; objects up to that size are seen whole.",
        0.2),
    Key("TEST.TILES.WHOLE", Flag(), "With tiles: also look at the whole image, for objects larger than a tile.", True),
    Key("TEST.EVAL_EPOCHS", COUNT,
        "With SOLVER.EPOCHS: period of evaluations and checkpoints; sets TEST.EVAL_PERIOD and "
        "SOLVER.CHECKPOINT_PERIOD. 0: evaluated at the end only, checkpoints every epoch.", 1, "epochs"),
]  # fmt: skip

SOLVER = [
    Key("SOLVER.OPTIMIZER", Slot("SOLVER.OPTIMIZER"),
        "The optimizer; SGD reads SOLVER.MOMENTUM and SOLVER.NESTEROV.", "SGD"),
    Key("SOLVER.TRAINER", Slot("SOLVER.TRAINER"),
        "The trainer class, unless a script passes one: RetinaTrainer or a subclass of it.", "RetinaTrainer"),
    Key("SOLVER.HOOKS", Several(Slot("SOLVER.HOOKS")),
        "Your own hooks, called in this order in every step, after the evaluation and before the checkpoint.", ()),
    Key("SOLVER.BACKBONE_LR_FACTOR", Number(float, 0),
        "Learning rate of the bottom-up network relative to SOLVER.BASE_LR; a value below 1 preserves more of the "
        "pretrained weights.", 1.0),
    Key("SOLVER.REFERENCE_BATCH_SIZE", COUNT,
        "Batch size that BASE_LR, BASE_LR_END, MAX_ITER, STEPS, WARMUP_ITERS, FREEZE_ITERS and the checkpoint and "
        "evaluation periods are meant for. If SOLVER.IMS_PER_BATCH differs, they are all scaled linearly "
        "(Goyal et al. 2017). 0: never scale.", 0, "images"),
    Key("SOLVER.EPOCHS", COUNT,
        "Length of the training in passes over DATASETS.TRAIN. Above 0, it sets SOLVER.MAX_ITER and SOLVER.STEPS (at "
        "2/3 and 8/9 of MAX_ITER), and together with SOLVER.WARMUP_EPOCHS, SOLVER.FREEZE_EPOCHS and TEST.EVAL_EPOCHS "
        "it sets SOLVER.WARMUP_ITERS, SOLVER.FREEZE_ITERS, TEST.EVAL_PERIOD and SOLVER.CHECKPOINT_PERIOD. 0: the keys "
        "in iterations are used as they are.", 0, "epochs"),
    Key("SOLVER.WARMUP_EPOCHS", COUNT,
        "With SOLVER.EPOCHS: length of the warm-up, at most a quarter of the training; sets SOLVER.WARMUP_ITERS.",
        1, "epochs"),
    Key("SOLVER.FREEZE_EPOCHS", COUNT, "With SOLVER.EPOCHS: sets SOLVER.FREEZE_ITERS.", 0, "epochs"),
    Key("SOLVER.LAYER_DECAY", Number(float, 0, 1, open_low=True),
        "Factor by which the learning rate shrinks from each block of the network below the pyramid to the block "
        "before it; 1: off.", 1.0),
    Key("SOLVER.SWA_ITERS", COUNT,
        "Number of last iterations whose weights are averaged with equal weight; the average is evaluated and saved. "
        "0: off. Cannot be combined with SOLVER.EMA_DECAY.", 0, "iterations"),
    Key("SOLVER.DETAILS_PERIOD", COUNT,
        "Period at which metrics.json gets the losses per level and per class and the gradient norms of backbone, "
        "neck and head; 0: never.", 0, "iterations"),
    Key("SOLVER.PROFILE_ITER", COUNT,
        "Iteration, counted from 1, to profile with torch.profiler; open OUTPUT_DIR/trace.json in Chrome "
        "(chrome://tracing) or Perfetto. 0: none.", 0),
    Key("SOLVER.FREEZE_ITERS", COUNT,
        "Number of first iterations in which the network below the pyramid keeps its loaded weights.",
        0, "iterations"),
    Key("SOLVER.CHECKPOINTS_KEPT", COUNT,
        "Number of periodic checkpoints (SOLVER.CHECKPOINT_PERIOD) to keep, the latest ones; 0: all. model_best.pth "
        "and model_final.pth are always kept.", 0, "files"),
    Key("SOLVER.ACCUMULATE", Number(int, 1),
        "Gradient accumulation: number of smaller batches, computed one after the other, that SOLVER.IMS_PER_BATCH is "
        "split into to save memory; must divide it.", 1, "batches"),
    Key("SOLVER.EMA_DECAY", Number(float, 0, 1, open_high=True),
        "Decay of an exponential moving average of the weights, which is evaluated and saved: 0.998 averages over "
        "about 500 iterations; 0: off.", 0.0),
    Key("SOLVER.AMP.PRECISION", Choice(("auto", "fp32", "bf16", "fp16")),
        "Precision of the convolutions in training and inference. auto: bf16 where the device is fast at it, else "
        "fp16 on CUDA and fp32 on CPU. fp16: CUDA only, with loss scaling. If SOLVER.AMP.ENABLED is False, fp32 is "
        "used. On a CPU, loading the config stores the chosen precision here and sets SOLVER.AMP.ENABLED to False, so "
        "that Detectron2's DefaultTrainer can train there.", "auto"),
]  # fmt: skip

RUN = [
    Key("LOGGING.TRACKERS", Several(Choice(("mlflow", "wandb", "clearml", "trackio"))),
        "Experiment trackers that training sends its scalars to, besides metrics.json and TensorBoard. Each needs its "
        "package.", (), shown=((),)),
    Key("LOGGING.PROJECT", Text("a name", empty=False), "Project or experiment of the run in the trackers.",
        "retina_plugin"),
    Key("DETERMINISTIC", Flag(),
        "Use only algorithms with reproducible results (torch.use_deterministic_algorithms). Slower on a GPU; an error "
        "names any operation without such an algorithm.", False),
]  # fmt: skip

GROUPS = {"": FIRST, "Model": MODEL, "Data": DATA, "Evaluation": EVALUATION, "Solver": SOLVER, "Run": RUN}
"""The plugin's keys by heading."""

KEYS = {key.name: key for keys in GROUPS.values() for key in keys}
"""The plugin's keys by name."""


OWN: dict[str, Key] = {}
"""Keys that third-party modules have added with :func:`add_key`."""


def add_key(key: Key) -> None:
    """Add a key that your own module reads, such as that of a backbone or a hook.

    Variants of a slot declare their keys when they are registered and do not need this function.
    Afterwards every config has the key, with its default and its check, and ``retina keys`` shows it.

    Raises:
        ValueError: If the key already exists, its default is not allowed, or its name is not a key name.
    """
    parts = key.name.split(".")
    if not all(part.isidentifier() and part.isupper() for part in parts):
        raise ValueError(f"{key.name!r} is not a valid key name; write it in capital letters, such as MY_PACKAGE.WIDTH")
    if not key.rule.allows(key.default):
        raise ValueError(f"{key.name}: its default is {key.default!r}; it must be {key.rule.says()}")
    others = set(all_keys(get_cfg())) | {name for name in known_keys() if name != key.name or OWN.get(name) != key}
    # A section cannot be a key, nor a key a section: A.B clashes with A.B, A and A.B.C.
    for name in sorted(others):
        if f"{key.name}.".startswith(f"{name}.") or name.startswith(f"{key.name}."):
            raise ValueError(f"{key.name} cannot be added: it clashes with the existing key {name}")
    OWN[key.name] = key


def known_keys() -> dict[str, Key]:
    """Return the plugin's keys by name, including those declared by variants or added with :func:`add_key`."""
    declared = {
        name: Key(name, option.rule, option.meaning, option.default, option.unit) for name, option in OPTIONS.items()
    }
    return {**KEYS, **OWN, **declared}


def add_retina_config(cfg: CfgNode) -> None:
    """Add the plugin's keys to ``cfg``, and nothing else: existing keys keep their values.

    Where Detectron2 has a key (MODEL.RETINANET.*, MODEL.FPN.*, MODEL.RESNETS.*, MODEL.ANCHOR_GENERATOR.*, SOLVER.*),
    that key is used. Calling the function twice changes nothing. The trainer resolves and checks a config made this
    way; the model refuses it while it is unresolved. See :func:`retina_plugin.config.ready_config`.
    """
    for key in known_keys().values():
        key.add_to(cfg)
