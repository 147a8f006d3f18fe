"""Every config key the plugin adds, and how a config file is read."""

import os
from pathlib import Path

import yaml

from detectron2.config import CfgNode, get_cfg

from retina_plugin.config_checks import CONFIG_VERSION, check_config, resolve_config, unknown_keys_message


def add_retina_config(cfg: CfgNode) -> None:
    """Add the plugin's keys to ``cfg``, and nothing else: detectron2's own keys keep their values.

    Where detectron2 has a key (MODEL.RETINANET.*, MODEL.FPN.*, MODEL.RESNETS.*,
    MODEL.ANCHOR_GENERATOR.*, SOLVER.*) that key is used. Calling it twice changes nothing.
    """
    # Stands first in every config file of the plugin: read without `import retina_plugin`, the file
    # is refused with "Non-existent config key: NEEDS_IMPORT_RETINA_PLUGIN". Its value is the
    # version of the keys below.
    cfg.NEEDS_IMPORT_RETINA_PLUGIN = CONFIG_VERSION

    # --- model -------------------------------------------------------------------------------
    # Levels of the pyramid: consecutive l, stride 2**l, in 2..9. Strides, top block, anchor sizes
    # and head inputs follow. detectron2's keys for the same facts (MODEL.RETINANET.IN_FEATURES,
    # MODEL.FPN.IN_FEATURES, MODEL.ANCHOR_GENERATOR.SIZES) are empty in Base-RetinaNet.yaml.
    cfg.MODEL.RETINANET.LEVELS = [3, 4, 5, 6, 7]
    # Name of the head in HEAD_REGISTRY: "retinanet", "shared_tower" (one tower for both outputs).
    cfg.MODEL.RETINANET.HEAD_NAME = "retinanet"
    # Width of the head's convolutions; 0: as many channels as the levels have.
    cfg.MODEL.RETINANET.HEAD_CHANNELS = 0
    # Name of the classification loss in CLS_LOSS_REGISTRY: "focal", "focal_star", "cross_entropy",
    # "balanced_cross_entropy", "ohem", "ohem_1to3", "ghm", "quality_focal", "varifocal".
    cfg.MODEL.RETINANET.CLS_LOSS = "focal"
    # Name of the assigner in ASSIGNER_REGISTRY: "max_iou", "atss".
    cfg.MODEL.RETINANET.ASSIGNER = "max_iou"
    # Give every ground-truth box its best anchor(s), even below the foreground threshold.
    cfg.MODEL.RETINANET.ALLOW_LOW_QUALITY_MATCHES = True
    # For "atss": locations of each level that are candidates for a box. >= 1.
    cfg.MODEL.RETINANET.ATSS_TOPK = 9
    # Options of the classification losses that they are named for; "focal" and
    # "balanced_cross_entropy" read MODEL.RETINANET.FOCAL_LOSS_ALPHA and FOCAL_LOSS_GAMMA.
    cfg.MODEL.CLS_LOSS = CfgNode()
    cfg.MODEL.CLS_LOSS.FOCAL_STAR_GAMMA = 2.0  # > 0
    cfg.MODEL.CLS_LOSS.FOCAL_STAR_BETA = 1.0
    cfg.MODEL.CLS_LOSS.OHEM_BATCH_SIZE = 256  # anchors an image
    cfg.MODEL.CLS_LOSS.OHEM_NMS_THRESH = 0.7  # IoU; 1: no NMS
    cfg.MODEL.CLS_LOSS.GHM_BINS = 30
    cfg.MODEL.CLS_LOSS.QUALITY_BETA = 2.0
    cfg.MODEL.CLS_LOSS.VARIFOCAL_ALPHA = 0.75
    cfg.MODEL.CLS_LOSS.VARIFOCAL_GAMMA = 2.0
    # Smallest anchor of a level, in strides of the level: 4 gives 32 px at P3. > 0.
    cfg.MODEL.ANCHOR_GENERATOR.SCALE = 4.0
    # Anchor sizes between one level and the next: 3 gives 2**0, 2**(1/3), 2**(2/3). >= 1.
    cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE = 3
    # Name of the neck in NECK_REGISTRY: "fpn", "pafpn", "bifpn".
    cfg.MODEL.FPN.NAME = "fpn"
    # For "bifpn": how often it goes down and up. >= 1.
    cfg.MODEL.FPN.BIFPN_LAYERS = 3
    # Further 3x3 convolutions with ReLU on every level, with weights of its own. >= 0.
    cfg.MODEL.FPN.EXTRA_CONVS = 0
    # Where the levels above the backbone's come from: "conv_c5", "conv_p5", "max_pool", "none".
    cfg.MODEL.FPN.TOP_BLOCK = "conv_c5"
    cfg.MODEL.BOTTOM_UP = CfgNode()
    # Network below the neck, in detectron2's BACKBONE_REGISTRY: "build_retina_resnet",
    # "build_retina_timm", "build_retina_torchvision", or anything that yields res2..res5.
    cfg.MODEL.BOTTOM_UP.NAME = "build_retina_resnet"
    cfg.MODEL.TIMM = CfgNode()
    # Model name in timm, for "build_retina_timm".
    cfg.MODEL.TIMM.NAME = "tf_efficientnet_lite0"
    cfg.MODEL.TORCHVISION = CfgNode()
    # Classifier of torchvision, for "build_retina_torchvision".
    cfg.MODEL.TORCHVISION.NAME = "mobilenet_v2"
    # Where MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT come from: "weights" (what MODEL.WEIGHTS were trained
    # with, if that is known and these three keys are as detectron2 has them), "config" (these keys as they are).
    cfg.MODEL.PIXELS_FROM = "weights"
    # Keep images and convolutions in the channels-last memory format (faster on CPU and GPU).
    cfg.MODEL.CHANNELS_LAST = True
    # Parts that go through torch.compile: any of "backbone", "head", "cls_loss". The first steps then
    # take a minute or two longer, the others less time.
    cfg.MODEL.COMPILE = []

    # --- data --------------------------------------------------------------------------------
    # Evaluated once, after training, with model_best.pth if there is one; as DATASETS.TEST.
    cfg.DATASETS.FINAL_TEST = ()
    # What training does with a dataset that has problems: "drop" leaves out what is wrong and logs
    # every case; "refuse" stops with the list.
    cfg.DATASETS.ON_PROBLEM = "drop"

    # Look at the first and last bytes of every training image before training: what is missing, truncated or of
    # another size than its annotations say is treated by DATASETS.ON_PROBLEM.
    cfg.DATASETS.CHECK_IMAGES = True

    # Who reads and resizes images: "opencv" (several times faster), or "detectron2", whose pixels (read
    # and resized by Pillow) its checkpoints were trained with. load_predictor follows it; Detectron2's
    # DefaultPredictor by itself always resizes with Pillow.
    cfg.INPUT.READER = "opencv"
    # Strength of the random change of brightness, contrast and saturation in training, 0 (off) to 1.
    cfg.INPUT.COLOR_JITTER = 0.0
    # Flip training images upside down half of the time (INPUT.RANDOM_FLIP flips one way only).
    cfg.INPUT.RANDOM_FLIP_VERTICAL = False

    # Turn training images by 0, 90, 180 or 270 degrees.
    cfg.INPUT.ROTATE_90 = False
    # Probability, 0 to 1, that a training image becomes one of four in a mosaic, and that it is blended with another.
    cfg.INPUT.MOSAIC = 0.0
    cfg.INPUT.MIXUP = 0.0
    # Share of the images without objects that are trained on, 0 to 1, if DATALOADER.FILTER_EMPTY_ANNOTATIONS is
    # off; which ones follows from SEED.
    cfg.DATALOADER.EMPTY_IMAGES = 1.0

    # --- evaluation --------------------------------------------------------------------------
    # Who computes COCO's figures: "hotcoco" (fast), or "detectron2", its COCOEvaluator on pycocotools.
    cfg.TEST.EVALUATOR = "hotcoco"

    # Write OUTPUT_DIR/report.html, a page about the run, after every evaluation.
    cfg.TEST.REPORT = True
    # What decides which checkpoint is model_best.pth, as "task/metric", on the first of DATASETS.TEST; "": none is kept. Needs TEST.EVAL_PERIOD.
    cfg.TEST.BEST_METRIC = "bbox/AP"
    # Evaluations without a better metric after which training ends; 0: never.
    cfg.TEST.EARLY_STOP_PATIENCE = 0
    # Compute the losses on DATASETS.TEST, too, at every evaluation.
    cfg.TEST.VALIDATION_LOSS = False

    # --- solver ------------------------------------------------------------------------------
    # "SGD" (SOLVER.MOMENTUM, NESTEROV) or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Learning rate of the bottom-up network relative to BASE_LR; below 1 keeps more of pretrained weights.
    cfg.SOLVER.BACKBONE_LR_FACTOR = 1.0
    # Images a batch that BASE_LR, MAX_ITER, STEPS, WARMUP_ITERS and the checkpoint and evaluation
    # periods are meant for. If IMS_PER_BATCH differs, they are scaled together, linearly (Goyal et
    # al. 2017). 0: never scale.
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 0
    # Schedule in epochs, that is passes over DATASETS.TRAIN. If EPOCHS is above 0, these four give SOLVER.MAX_ITER (STEPS at 2/3
    # and 8/9 of it), SOLVER.WARMUP_ITERS, SOLVER.FREEZE_ITERS, and TEST.EVAL_PERIOD with SOLVER.CHECKPOINT_PERIOD.
    cfg.SOLVER.EPOCHS = 0
    cfg.SOLVER.WARMUP_EPOCHS = 1
    cfg.SOLVER.FREEZE_EPOCHS = 0
    cfg.TEST.EVAL_EPOCHS = 1
    # Iterations at the beginning in which the network below the pyramid stays as it was loaded.
    cfg.SOLVER.FREEZE_ITERS = 0
    # Checkpoints of SOLVER.CHECKPOINT_PERIOD that are kept, the latest; 0: all. model_best.pth and model_final.pth always are.
    cfg.SOLVER.CHECKPOINTS_KEPT = 0
    # Batches that IMS_PER_BATCH is computed in, one after another, to need less memory. >= 1, and a divisor of it.
    cfg.SOLVER.ACCUMULATE = 1
    # Keep an exponential moving average of the weights and evaluate and save that: 0.998 averages over about
    # 500 iterations; 0: off.
    cfg.SOLVER.EMA_DECAY = 0.0
    # Arithmetic of the convolutions, in training and inference, when SOLVER.AMP.ENABLED: "auto" (bf16 where the device is fast
    # at it, else fp16 on CUDA and fp32 on CPU), "fp32", "bf16", "fp16" (CUDA only, with loss scaling).
    cfg.SOLVER.AMP.PRECISION = "auto"


def load_config(file: str | os.PathLike, opts: list[str] | tuple[str, ...] = ()) -> CfgNode:
    """Read a config file of the plugin, ready to build from; the one way used by every tool.

    Reads YAML safely (a tag that runs code is an error), refuses unknown keys with the nearest known
    one, takes the class count from the dataset unless it is set, scales the schedule to the batch
    size (see SOLVER.REFERENCE_BATCH_SIZE) or to epochs (SOLVER.EPOCHS), and checks the result.

    Args:
        file: path of a YAML file; its ``_BASE_`` is followed.
        opts: alternating keys and values that override the file, as on the command line.

    Returns:
        A frozen config.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown keys, or values that contradict each other; all are listed.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"config file {os.fspath(file)!r} does not exist (looked in {Path.cwd()})")
    return _prepare(CfgNode(CfgNode.load_yaml_with_base(os.fspath(file), allow_unsafe=False)), opts, os.fspath(file))


def config_from_text(text: str, opts: list[str] | tuple[str, ...] = ()) -> CfgNode:
    """:func:`load_config` for the YAML that :func:`dump_config` wrote, as a checkpoint carries it."""
    return _prepare(CfgNode(yaml.safe_load(text)), opts, "the config of the checkpoint")


def dump_config(cfg: CfgNode) -> str:
    """The whole config as YAML that loads alone, with the key that names the plugin first."""
    data = yaml.safe_load(cfg.dump())
    first = "NEEDS_IMPORT_RETINA_PLUGIN"
    return yaml.dump({first: data.pop(first), **data}, Dumper=_PlainDumper, sort_keys=False)


class _PlainDumper(yaml.SafeDumper):
    """Writes a value that occurs twice twice, where YAML would put a reference that people stumble over."""

    def ignore_aliases(self, data: object) -> bool:
        """Every value is written out."""
        return True


def _prepare(loaded: CfgNode, opts: list[str] | tuple[str, ...], where: str) -> CfgNode:
    cfg = get_cfg()
    add_retina_config(cfg)
    if message := unknown_keys_message(cfg, loaded, list(opts)):
        raise ValueError(f"{where}: {message}")
    cfg.merge_from_other_cfg(loaded)
    cfg.merge_from_list(list(opts))
    resolve_config(cfg)
    check_config(cfg)
    cfg.freeze()
    return cfg
