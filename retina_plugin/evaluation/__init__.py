"""Evaluators and result tables."""

from collections.abc import Iterable, Iterator

from detectron2.config import CfgNode

from retina_plugin.config.key import nearest
from retina_plugin.config.resolve import class_names
from retina_plugin.registry import SlotRegistry

from .coco import BoxEvaluator
from .hotcoco import HotCocoEvaluator
from .lvis import LvisEvaluator
from .result_table import format_results, write_results
from .thresholds import thresholds_in
from .voc import VocEvaluator

EVALUATOR_REGISTRY = SlotRegistry("evaluator", "TEST.EVALUATOR", section="TEST.EVALUATORS")
"""Subclasses of Detectron2's ``DatasetEvaluator``.

Of ``dataset_name``, ``output_dir``, ``detections_per_image`` and ``cfg`` a constructor receives those that it names,
and the options that it declares. ``evaluate()`` returns {task: {metric: value}} on the main process.
"""

EVALUATOR_REGISTRY.register("hotcoco")(HotCocoEvaluator)
EVALUATOR_REGISTRY.register("detectron2")(BoxEvaluator)
EVALUATOR_REGISTRY.register("voc")(VocEvaluator)
EVALUATOR_REGISTRY.register("lvis")(LvisEvaluator)


def unknown_metrics(cfg: CfgNode, metrics: Iterable[str]) -> Iterator[str]:
    """Yield one message for each metric that the evaluator of a config does not report.

    An evaluator lists its box metrics in ``metric_names(class_names)``; one without that method is not checked.

    Args:
        cfg: the config; TEST.EVALUATOR and the classes of DATASETS.TEST are read.
        metrics: names, "AP" or "task/AP".
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
            hint = f"; did you mean {near}?" if near else "."
            yield (
                f"{metric!r} is not a metric of TEST.EVALUATOR {cfg.TEST.EVALUATOR}{hint} "
                f"Available: {', '.join(plain)}, and the metrics per class"
            )


def refuse_unknown_metric(cfg: CfgNode) -> None:
    """Refuse, before training starts, a TEST.BEST_METRIC that the evaluator will not report.

    Raises:
        ValueError: the metric is unknown; the message lists those available.
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
    "thresholds_in",
    "unknown_metrics",
    "write_results",
]
