"""What becomes of an evaluation."""

from collections.abc import Iterable, Iterator

from detectron2.config import CfgNode

from retina_plugin.config.key import nearest
from retina_plugin.config.resolve import class_names
from retina_plugin.registry import SlotRegistry

from .coco import BoxEvaluator
from .hotcoco import HotCocoEvaluator
from .lvis import LvisEvaluator
from .result_table import format_results, write_results
from .voc import VocEvaluator

EVALUATOR_REGISTRY = SlotRegistry("evaluator", "TEST.EVALUATOR", section="TEST.EVALUATORS")
"""``DatasetEvaluator`` classes of Detectron2; they get those of ``dataset_name``, ``output_dir``, ``detections_per_image`` and ``cfg`` that
their constructor names, and the options that they declare. ``evaluate()`` returns {task: {metric: value}}, on the main process."""

EVALUATOR_REGISTRY.register("hotcoco")(HotCocoEvaluator)
EVALUATOR_REGISTRY.register("detectron2")(BoxEvaluator)
EVALUATOR_REGISTRY.register("voc")(VocEvaluator)
EVALUATOR_REGISTRY.register("lvis")(LvisEvaluator)


def unknown_metrics(cfg: CfgNode, metrics: Iterable[str]) -> Iterator[str]:
    """Say for every metric, "AP" or "task/AP", that the evaluator of a config is known not to give, which it does.

    An evaluator says with ``metric_names(class_names)`` which figures of boxes it gives; of one that does not, nothing is known.
    """
    names = getattr(EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR), "metric_names", None)
    if names is None:
        return
    classes = [name for dataset in cfg.DATASETS.TEST[:1] for name in class_names(dataset) or ()]
    known, plain = names(classes), names(())
    for metric in metrics:
        task, _, name = metric.rpartition("/")
        if task in ("", "bbox") and name not in known:
            near = nearest(name, known)
            yield (
                f"{metric!r} is no metric of TEST.EVALUATOR {cfg.TEST.EVALUATOR}"
                + (f"; did you mean {near}?" if near else ".")
                + f" There are {', '.join(plain)}, and those of classes"
            )


def refuse_unknown_metric(cfg: CfgNode) -> None:
    """Refuse a TEST.BEST_METRIC that no evaluation will give, before the training that it would be looked for in.

    Raises:
        ValueError: with those that there are.
    """
    if cfg.TEST.BEST_METRIC and cfg.DATASETS.TEST:
        for problem in unknown_metrics(cfg, [cfg.TEST.BEST_METRIC]):
            raise ValueError(f"TEST.BEST_METRIC {problem}")


__all__ = [
    "EVALUATOR_REGISTRY",
    "BoxEvaluator",
    "HotCocoEvaluator",
    "format_results",
    "refuse_unknown_metric",
    "unknown_metrics",
    "write_results",
]
