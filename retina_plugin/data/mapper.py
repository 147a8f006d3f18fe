"""What happens to an image between the file and the network, in training."""

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T


def build_train_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Detectron2's augmentations of the config, then those of the plugin's keys.

    INPUT.COLOR_JITTER s > 0 scales brightness, contrast and saturation by factors from 1 - s .. 1 + s;
    INPUT.RANDOM_FLIP_VERTICAL flips upside down half of the time, besides INPUT.RANDOM_FLIP.
    """
    augmentations = utils.build_augmentation(cfg, is_train=True)
    if cfg.INPUT.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    if cfg.INPUT.RANDOM_FLIP_VERTICAL:
        augmentations.append(T.RandomFlip(horizontal=False, vertical=True))
    if cfg.INPUT.COLOR_JITTER > 0:
        low, high = 1 - cfg.INPUT.COLOR_JITTER, 1 + cfg.INPUT.COLOR_JITTER
        augmentations += [T.RandomBrightness(low, high), T.RandomContrast(low, high), T.RandomSaturation(low, high)]
    return augmentations


def build_train_mapper(cfg: CfgNode) -> DatasetMapper:
    """Detectron2's ``DatasetMapper`` for training, with :func:`build_train_augmentations`."""
    return DatasetMapper(cfg, is_train=True, augmentations=build_train_augmentations(cfg))
