"""Everything you need to write your own variants; docs/extending.md shows how.

A module registers its variants when it is imported. Name the module under IMPORTS in a config, with ``--import`` on the
command line or, in an installed package, as an entry point of the group ``retina_plugin.plugins``.
"""

from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY

from retina_plugin.config import Key, add_key
from retina_plugin.config.values import Choice, Flag, Number, OrNone, Several, Text
from retina_plugin.data.formats import FORMAT_REGISTRY, AnnotationFormat, Found, Reading
from retina_plugin.data.mapper import MAPPER_REGISTRY
from retina_plugin.engine.hooks import HOOK_REGISTRY
from retina_plugin.engine.solver import LR_SCHEDULER_REGISTRY, OPTIMIZER_REGISTRY
from retina_plugin.engine.trainer import TRAINER_REGISTRY
from retina_plugin.evaluation import EVALUATOR_REGISTRY
from retina_plugin.modeling.assignment import ASSIGNER_REGISTRY, Assigner
from retina_plugin.modeling.head import HEAD_REGISTRY
from retina_plugin.modeling.losses import BOX_LOSS_REGISTRY, CLS_LOSS_REGISTRY, ClassTargets
from retina_plugin.modeling.losses.dense import dense_loss_sum
from retina_plugin.modeling.neck import NECK_REGISTRY, TOP_BLOCK_REGISTRY
from retina_plugin.registry import Option, reads

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "ASSIGNER_REGISTRY",
    "BACKBONE_REGISTRY",
    "BOX_LOSS_REGISTRY",
    "CLS_LOSS_REGISTRY",
    "EVALUATOR_REGISTRY",
    "FORMAT_REGISTRY",
    "HEAD_REGISTRY",
    "HOOK_REGISTRY",
    "LR_SCHEDULER_REGISTRY",
    "MAPPER_REGISTRY",
    "META_ARCH_REGISTRY",
    "NECK_REGISTRY",
    "OPTIMIZER_REGISTRY",
    "TOP_BLOCK_REGISTRY",
    "TRAINER_REGISTRY",
    "AnnotationFormat",
    "Assigner",
    "Choice",
    "ClassTargets",
    "Flag",
    "Found",
    "Key",
    "Number",
    "Option",
    "OrNone",
    "Reading",
    "Several",
    "Text",
    "add_key",
    "dense_loss_sum",
    "reads",
]
