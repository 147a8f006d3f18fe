"""Every config key that the plugin adds: one record each, from which defaults, checks, help and docs/keys.md follow."""

from detectron2.config import CfgNode, get_cfg

from retina_plugin.config.key import Key, all_keys
from retina_plugin.config.values import Choice, Flag, Number, Several, Slot, Text
from retina_plugin.registry import OPTIONS

CONFIG_VERSION = 1
"""Value of NEEDS_IMPORT_RETINA_PLUGIN: the version of the plugin's keys."""

SHARE = Number(float, 0, 1)
COUNT = Number(int, 0)
LAYERS = 32
"""Most repetitions of a part that can be asked for; published networks have at most 8."""

FIRST = [
    Key("NEEDS_IMPORT_RETINA_PLUGIN", Choice((CONFIG_VERSION,)),
        "First key of every config file of the plugin: without `import retina_plugin` the file is refused with this name. Its value is the version of the plugin's keys.", CONFIG_VERSION),
    Key("IMPORTS", Several(Text("a module, such as my_package.losses", empty=False)),
        "Modules that register variants of your own; imported when the config is read, from where Python looks and from the working directory. Those of a checkpoint are imported only "
        "if the caller says so.", (), shown=((),)),
]  # fmt: skip

MODEL = [
    Key("MODEL.RETINANET.LEVELS", Several(Number(int, 2, 9), least=1),
        "Levels l of the pyramid, stride 2**l: consecutive, ascending, starting at 5 or below. Strides, top block, anchor sizes and head inputs follow. Detectron2's keys for the "
        "same facts (MODEL.RETINANET.IN_FEATURES, MODEL.FPN.IN_FEATURES, MODEL.ANCHOR_GENERATOR.SIZES) are empty in Base-RetinaNet.yaml.", [3, 4, 5, 6, 7],
        shown=([2, 3, 4, 5, 6, 7, 8, 9], [5], [3, 4, 5])),
    Key("MODEL.RETINANET.HEAD_NAME", Slot("MODEL.RETINANET.HEAD_NAME"), "The head; shared_tower has one tower for both outputs.", "retinanet"),
    Key("MODEL.RETINANET.HEAD_CHANNELS", Number(int, 0, 2**14), "Width of the head's convolutions; 0: as many channels as the levels have.", 0, "channels"),
    Key("MODEL.RETINANET.CLS_LOSS", Slot("MODEL.RETINANET.CLS_LOSS"), "The classification loss.", "focal"),
    Key("MODEL.RETINANET.ASSIGNER", Slot("MODEL.RETINANET.ASSIGNER"), "Decides which anchors are foreground.", "max_iou"),
    Key("MODEL.RETINANET.ALLOW_LOW_QUALITY_MATCHES", Flag(), "For max_iou: give every ground-truth box its best anchor(s), even below the foreground threshold.", True),
    Key("MODEL.RETINANET.ATSS_TOPK", Number(int, 1), "For atss: locations of each level that are candidates for a box.", 9, "locations"),
    Key("MODEL.CLS_LOSS.FOCAL_STAR_GAMMA", Number(float, 0, open_low=True), "For focal_star: γ. (focal and balanced_cross_entropy read MODEL.RETINANET.FOCAL_LOSS_ALPHA and FOCAL_LOSS_GAMMA.)", 2.0),
    Key("MODEL.CLS_LOSS.FOCAL_STAR_BETA", Number(), "For focal_star: β.", 1.0),
    Key("MODEL.RETINANET.CLIP_BEFORE_NMS", Flag(), "Clip boxes to the image before non-maximum suppression, as torchvision does, and not after it.", False),
    Key("MODEL.CLS_LOSS.OHEM_BATCH_SIZE", Number(int, 1), "For ohem and ohem_1to3: anchors that are trained on; for the latter at least 4.", 256, "anchors per image"),
    Key("MODEL.CLS_LOSS.OHEM_NMS_THRESH", Number(float, 0, 1, open_low=True), "For ohem and ohem_1to3: anchors that overlap a harder one more than this are left out; 1: no NMS.", 0.7, "IoU"),
    Key("MODEL.CLS_LOSS.GHM_BINS", Number(int, 1, 2**16), "For ghm: bins of the gradient norm.", 30),
    Key("MODEL.CLS_LOSS.QUALITY_BETA", Number(float, 0), "For quality_focal: β.", 2.0),
    Key("MODEL.CLS_LOSS.VARIFOCAL_ALPHA", Number(float, 0), "For varifocal: α.", 0.75),
    Key("MODEL.CLS_LOSS.VARIFOCAL_GAMMA", Number(float, 0), "For varifocal: γ.", 2.0),
    Key("MODEL.ANCHOR_GENERATOR.SCALE", Number(float, 0, open_low=True), "Smallest anchor of a level: 4 gives 32 px at P3.", 4.0, "strides of the level"),
    Key("MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE", Number(int, 1, LAYERS), "Anchor sizes between one level and the next: 3 gives 2**0, 2**(1/3), 2**(2/3).", 3),
    Key("MODEL.FPN.NAME", Slot("MODEL.FPN.NAME"), "The neck.", "fpn"),
    Key("MODEL.FPN.BIFPN_LAYERS", Number(int, 1, LAYERS), "For bifpn: how often it goes down and up.", 3),
    Key("MODEL.FPN.BIFPN_NORM", Choice(("BN", "", "GN", "SyncBN", "FrozenBN")), "For bifpn: the norm after its convolutions, in place of MODEL.FPN.NORM; BN in EfficientDet, empty for none.", "BN"),
    Key("MODEL.FPN.EXTRA_CONVS", Number(int, 0, LAYERS), "Further 3x3 convolutions with ReLU on every level, with weights of its own.", 0),
    Key("MODEL.FPN.TOP_BLOCK", Slot("MODEL.FPN.TOP_BLOCK"), "Where the levels above the backbone's come from.", "conv_c5"),
    Key("MODEL.BOTTOM_UP.NAME", Slot("MODEL.BOTTOM_UP.NAME", "BACKBONE_REGISTRY"), "Network below the neck: anything in Detectron2's BACKBONE_REGISTRY that yields res2..res5.", "build_retina_resnet",
        shown=("build_retina_resnet", "build_retina_timm", "build_retina_torchvision", "build_retina_detectron2", "build_resnet_backbone")),
    Key("MODEL.TIMM.NAME", Text("a model name of timm", empty=False), "For build_retina_timm: the network.", "tf_efficientnet_lite0"),
    Key("MODEL.TORCHVISION.NAME", Text("a classifier of torchvision", empty=False), "For build_retina_torchvision: the network.", "mobilenet_v2"),
    Key("MODEL.DETECTRON2.NAME", Choice(("regnetx_400mf", "regnetx_4gf", "swin_t", "swin_s", "swin_b", "vit_ti", "vit_s", "vit_b")),
        "For build_retina_detectron2: a RegNet or Swin of Detectron2; for MODEL.BACKBONE.NAME build_retina_vit_backbone: a plain ViT.", "swin_t", shown=("swin_t",)),
    Key("MODEL.PIXELS_FROM", Choice(("weights", "config")),
        "Where MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT come from: weights (what MODEL.WEIGHTS were trained with, if that is known and the three keys are as Detectron2 "
        "has them), config (the three keys as they are).", "weights"),
    Key("MODEL.FREEZE", Several(Text("a pattern of parameter names", empty=False)), "Parameters that are not trained, by name as in a shell: backbone.bottom_up.*, *.bias.", (), shown=((), ("backbone.fpn_*",))),
    Key("MODEL.CHECKPOINT_GRADIENTS", Flag(), "Compute the activations of the network below the pyramid again in the backward pass instead of keeping them: less memory, more time.", False),
    Key("MODEL.CHANNELS_LAST", Flag(), "Keep images and convolutions in the channels-last memory format (faster on CPU and GPU).", True),
    Key("MODEL.COMPILE", Several(Choice(("backbone", "head", "cls_loss")), most=3),
        "Parts that go through torch.compile. The first steps then take a minute or two longer, the others less time.", []),
]  # fmt: skip

DATA = [
    Key("DATASETS.FINAL_TEST", Several(Text("the name of a dataset", empty=False)), "Evaluated once, after training, with model_best.pth if there is one; as DATASETS.TEST.", ()),
    Key("DATASETS.ON_PROBLEM", Choice(("drop", "refuse")), "What training does with a dataset that has problems: drop leaves out what is wrong and logs every case; refuse stops with the list.", "drop"),
    Key("DATASETS.CHECK_IMAGES", Flag(),
        "Look at the first and last bytes of every training image before training: what is missing, truncated or of another size than its annotations say is treated by "
        "DATASETS.ON_PROBLEM.", True),
    Key("DATASETS.ON_BROKEN_IMAGE", Choice(("skip", "stop")),
        "What happens to an image that turns out to be broken when it is decoded in training: skip names it once and puts another in its place (which one follows from SEED and "
        "the position), stop ends the training.", "skip"),
    Key("INPUT.MAX_IMAGE_PIXELS", Number(int, 1),
        "Images of more pixels are left out, by `retina data check`, training and prediction alike, before anything is decoded: a small file can claim to be huge. The default is "
        "where Pillow suspects an attack; as RGB it takes 512 MiB.", 178_956_970, "pixels"),
    Key("INPUT.VALUE_RANGE", Several(Number(float), most=2),
        "Values (low, high) of images with more than 8 bits a channel, or of floats, that become 0 and 255, for every image of the data set and in prediction; 8-bit images stay "
        "as they are. Empty: all of uint16; floats and other types are then refused.", (), shown=((), (0.0, 4095.0))),
    Key("INPUT.MAPPER", Slot("INPUT.MAPPER"), "From a record of a dataset to the input of the network; detectron2 is Detectron2's DatasetMapper, which reads INPUT.READER, COLOR_JITTER and their like not.", "retina"),
    Key("INPUT.READER", Choice(("opencv", "detectron2")),
        "Who reads and resizes images: opencv (several times faster), or detectron2, whose pixels (read and resized by Pillow) its checkpoints were trained with. load_predictor "
        "follows it; Detectron2's DefaultPredictor by itself always resizes with Pillow.", "opencv"),
    Key("INPUT.COLOR_JITTER", SHARE, "Strength of the random change of brightness, contrast and saturation in training; 0: off.", 0.0),
    Key("INPUT.RANDOM_FLIP_VERTICAL", Flag(), "Flip training images upside down half of the time (INPUT.RANDOM_FLIP flips one way only).", False),
    Key("INPUT.ROTATE_90", Flag(), "Turn training images by 0, 90, 180 or 270 degrees.", False),
    Key("INPUT.MOSAIC", SHARE, "Probability that a training image becomes one of four in a mosaic.", 0.0),
    Key("INPUT.MIXUP", SHARE, "Probability that a training image is blended with another.", 0.0),
    Key("DATALOADER.EMPTY_IMAGES", SHARE, "Share of the images without objects that are trained on, if DATALOADER.FILTER_EMPTY_ANNOTATIONS is off; which ones follows from SEED.", 1.0),
]  # fmt: skip

EVALUATION = [
    Key("TEST.EVALUATOR", Slot("TEST.EVALUATOR"), "Which figures, and who computes them: COCO's by hotcoco (fast) or detectron2, its COCOEvaluator on pycocotools; voc (AP50 by area and by eleven points); lvis.", "hotcoco", shown=("hotcoco", "detectron2")),
    Key("TEST.IMS_PER_BATCH", Number(int, 1),
        "Images that are evaluated at once, by each process. Images of several sizes are padded to the largest of a batch, which changes what the convolutions see at their right and lower "
        "edges, and so the detections a little.", 1, "images"),
    Key("TEST.REPORT", Flag(), "Write OUTPUT_DIR/report.html, a page about the run, after every evaluation.", True),
    Key("TEST.BEST_METRIC", Text("task/metric"),
        "What decides which checkpoint is model_best.pth, as task/metric, on the first of DATASETS.TEST; empty: none is kept. Needs TEST.EVAL_PERIOD.", "bbox/AP"),
    Key("TEST.EARLY_STOP_PATIENCE", COUNT, "Evaluations without a better metric after which training ends; 0: never.", 0, "evaluations"),
    Key("TEST.VALIDATION_LOSS", Flag(), "Compute the losses on DATASETS.TEST, too, at every evaluation.", False),
    Key("TEST.SIZES", Several(Number(int, 1)), "Shorter sides at which the model is evaluated besides INPUT.MIN_SIZE_TEST, with --eval-only and after a training; MAX_SIZE_TEST follows.", (), "pixels"),
    Key("TEST.EVAL_EPOCHS", COUNT, "With SOLVER.EPOCHS: gives TEST.EVAL_PERIOD and SOLVER.CHECKPOINT_PERIOD.", 1, "epochs"),
]  # fmt: skip

SOLVER = [
    Key("SOLVER.OPTIMIZER", Slot("SOLVER.OPTIMIZER"), "The optimizer; SGD reads SOLVER.MOMENTUM and NESTEROV.", "SGD"),
    Key("SOLVER.TRAINER", Slot("SOLVER.TRAINER"), "The class that trains, unless a script gives one: RetinaTrainer or a subclass of it.", "RetinaTrainer"),
    Key("SOLVER.HOOKS", Several(Slot("SOLVER.HOOKS")), "Hooks of your own, called in this order in every step, after the evaluation and before the checkpoint.", ()),
    Key("SOLVER.BACKBONE_LR_FACTOR", Number(float, 0), "Learning rate of the bottom-up network relative to BASE_LR; below 1 keeps more of pretrained weights.", 1.0),
    Key("SOLVER.REFERENCE_BATCH_SIZE", COUNT,
        "Images per batch that BASE_LR, MAX_ITER, STEPS, WARMUP_ITERS, FREEZE_ITERS and the checkpoint and evaluation periods are meant for. If IMS_PER_BATCH differs, they are "
        "scaled together, linearly (Goyal et al. 2017). 0: never scale.", 0, "images"),
    Key("SOLVER.EPOCHS", COUNT,
        "Schedule in passes over DATASETS.TRAIN. If it is above 0, it and the three keys below give SOLVER.MAX_ITER (STEPS at 2/3 and 8/9 of it), SOLVER.WARMUP_ITERS, "
        "SOLVER.FREEZE_ITERS, and TEST.EVAL_PERIOD with SOLVER.CHECKPOINT_PERIOD.", 0, "epochs"),
    Key("SOLVER.WARMUP_EPOCHS", COUNT, "With SOLVER.EPOCHS: gives SOLVER.WARMUP_ITERS.", 1, "epochs"),
    Key("SOLVER.FREEZE_EPOCHS", COUNT, "With SOLVER.EPOCHS: gives SOLVER.FREEZE_ITERS.", 0, "epochs"),
    Key("SOLVER.LAYER_DECAY", Number(float, 0, 1, open_low=True), "Factor of the learning rate from each block of the network below the pyramid to the one under it; 1: off.", 1.0),
    Key("SOLVER.SWA_ITERS", COUNT, "Average the weights of the last iterations, all with the same weight, and save and evaluate that; 0: off. Not with EMA_DECAY.", 0, "iterations"),
    Key("SOLVER.DETAILS_PERIOD", COUNT, "Between losses of each level and class, and gradient norms of backbone, neck and head, in metrics.json; 0: none.", 0, "iterations"),
    Key("SOLVER.PROFILE_ITER", COUNT, "Iteration whose step goes through torch.profiler; trace.json in OUTPUT_DIR opens in Chrome (chrome://tracing) or Perfetto. 0: none.", 0),
    Key("SOLVER.FREEZE_ITERS", COUNT, "Iterations at the beginning in which the network below the pyramid stays as it was loaded.", 0, "iterations"),
    Key("SOLVER.CHECKPOINTS_KEPT", COUNT, "Checkpoints of SOLVER.CHECKPOINT_PERIOD that are kept, the latest; 0: all. model_best.pth and model_final.pth always are.", 0, "files"),
    Key("SOLVER.ACCUMULATE", Number(int, 1), "Batches that IMS_PER_BATCH is computed in, one after another, to need less memory: a divisor of it.", 1),
    Key("SOLVER.EMA_DECAY", Number(float, 0, 1, open_high=True),
        "Keep an exponential moving average of the weights and evaluate and save that: 0.998 averages over about 500 iterations; 0: off.", 0.0),
    Key("SOLVER.AMP.PRECISION", Choice(("auto", "fp32", "bf16", "fp16")),
        "Arithmetic of the convolutions, in training and inference: auto (bf16 where the device is fast at it, else fp16 on CUDA and fp32 on CPU), fp32, bf16, fp16 (CUDA only, "
        "with loss scaling). With SOLVER.AMP.ENABLED False it is fp32. On a CPU a loaded config holds the one chosen here, and ENABLED is False, so that Detectron2's DefaultTrainer trains there.", "auto"),
]  # fmt: skip

RUN = [
    Key("DETERMINISTIC", Flag(), "Use algorithms only whose results are the same every time (torch.use_deterministic_algorithms); slower on a GPU, and an error names an operation that has none.", False),
]  # fmt: skip

GROUPS = {"": FIRST, "Model": MODEL, "Data": DATA, "Evaluation": EVALUATION, "Solver": SOLVER, "Run": RUN}
"""The plugin's keys by heading."""

KEYS = {key.name: key for keys in GROUPS.values() for key in keys}
"""The plugin's keys by name."""


OWN: dict[str, Key] = {}
"""Keys that somebody else's modules have added with :func:`add_key`."""


def add_key(key: Key) -> None:
    """Add a key that a module of one's own reads, such as a backbone or a hook; variants of a slot declare theirs when they are registered.

    From then on the key is in every config: with its default, its check, and in ``retina keys``.

    Raises:
        ValueError: there is such a key already, its default is not allowed, or its name is none.
    """
    parts = key.name.split(".")
    if not all(part.isidentifier() and part.isupper() for part in parts):
        raise ValueError(f"{key.name!r} is no name of a key; write it in capital letters, such as MY_PACKAGE.WIDTH")
    if not key.rule.allows(key.default):
        raise ValueError(f"{key.name}: its default is {key.default!r}; it must be {key.rule.says()}")
    others = set(all_keys(get_cfg())) | {name for name in known_keys() if name != key.name or OWN.get(name) != key}
    if any(key.name == name or name.startswith(f"{key.name}.") or key.name.startswith(f"{name}.") for name in others):
        raise ValueError(f"{key.name}: there is such a key already")
    OWN[key.name] = key


def known_keys() -> dict[str, Key]:
    """The plugin's keys by name, those that variants have declared and :func:`add_key` has added included."""
    declared = {
        name: Key(name, option.rule, option.meaning, option.default, option.unit) for name, option in OPTIONS.items()
    }
    return {**KEYS, **OWN, **declared}


def add_retina_config(cfg: CfgNode) -> None:
    """Add the plugin's keys to ``cfg``, and nothing else: keys that are there keep their values.

    Where Detectron2 has a key (MODEL.RETINANET.*, MODEL.FPN.*, MODEL.RESNETS.*, MODEL.ANCHOR_GENERATOR.*, SOLVER.*) that key
    is used. Calling it twice changes nothing. A config made this way is resolved and checked by the trainer, and by the model
    refused if it still has to be resolved; see :func:`retina_plugin.config.ready_config`.
    """
    for key in known_keys().values():
        key.add_to(cfg)
