"""COCO's box AP by hotcoco, a Rust port of pycocotools: the same numbers, tens of times faster."""

import contextlib
import io
import itertools
import json
import logging
from collections import OrderedDict
from pathlib import Path

import hotcoco
import numpy as np

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode
from detectron2.utils import comm

from retina_plugin.evaluation.table import METRICS

logger = logging.getLogger(__name__)

PRECISION_RECALL = "precision_recall.json"
"""Class -> precision at recall 0, 0.01, ..., 1 with IoU 0.5; -1 where there is no such box."""


def coco_figures(coco_eval, class_names: list[str]) -> dict[str, float]:
    """COCO's twelve figures and the AP of every class, in percent; NaN where there is no such box.

    Args:
        coco_eval: a ``COCOeval`` of hotcoco or pycocotools, evaluated, accumulated and summarised.
        class_names: in the order of the ids of its categories.
    """
    figures = {name: 100 * value if value >= 0 else float("nan") for name, value in zip(METRICS, coco_eval.stats, strict=True)}
    precision = np.asarray(coco_eval.eval["precision"])[:, :, :, 0, -1]  # IoU x recall x class, all areas, most detections
    assert precision.shape[2] == len(class_names), (precision.shape, class_names)
    for k, name in enumerate(class_names):
        of_class = precision[:, :, k]
        of_class = of_class[of_class > -1]
        figures[f"AP-{name}"] = 100 * float(of_class.mean()) if of_class.size else float("nan")
    return figures


def load_ground_truth(file: str | Path) -> tuple[hotcoco.COCO, dict[str, int]]:
    """COCO annotations, and a number for every image id that is none, as the file names of VOC are."""
    try:
        return hotcoco.COCO(str(file)), {}
    except ValueError:
        data = json.loads(Path(file).read_text())
        numbers = {image["id"]: number for number, image in enumerate(data["images"], start=1)}
        for image in data["images"]:
            image["id"] = numbers[image["id"]]
        for annotation in data["annotations"]:
            annotation["image_id"] = numbers[annotation["image_id"]]
        return hotcoco.COCO(data), numbers


class HotCocoEvaluator(DatasetEvaluator):
    """In the place of Detectron2's ``COCOEvaluator`` for boxes; also writes ``coco_instances_results.json`` and ``precision_recall.json``.

    Gives AP 0, not NaN, to a model that detects nothing.

    Args:
        dataset_name: in detectron2's catalogs; annotations that are no COCO JSON are converted.
        output_dir: for the detections and the converted annotations.

    """

    def __init__(self, dataset_name: str, *, output_dir: str) -> None:
        self.dataset_name, self.output_dir = dataset_name, Path(output_dir)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        DatasetCatalog.get(dataset_name)  # only the data itself may fill in its metadata
        metadata = MetadataCatalog.get(dataset_name)
        file = metadata.get("json_file")
        if file is None:
            # Not cached: it would outlive a change of the data.
            file = str(self.output_dir / f"{dataset_name}_coco_format.json")
            convert_to_coco_json(dataset_name, file, allow_cached=False)
        self.ground_truth, self.image_ids = load_ground_truth(file)
        to_contiguous = metadata.get("thing_dataset_id_to_contiguous_id")
        ids = sorted(to_contiguous, key=to_contiguous.get) if to_contiguous else sorted(self.ground_truth.getCatIds())
        self.category_ids, self.class_names = np.array(ids), list(metadata.thing_classes)
        self.reset()

    def reset(self) -> None:
        """Forget all detections."""
        self.detections: list[np.ndarray] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take the detections of a batch: rows (image id, x, y, width, height, score, class)."""
        for record, output in zip(inputs, outputs, strict=True):
            found = output["instances"].to("cpu")
            rows = np.empty((len(found), 7))
            rows[:, 0] = self.image_ids.get(record["image_id"], record["image_id"])
            rows[:, 1:5] = BoxMode.convert(found.pred_boxes.tensor.numpy(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
            rows[:, 5], rows[:, 6] = found.scores.numpy(), found.pred_classes.numpy()
            self.detections.append(rows)

    def evaluate(self) -> OrderedDict | None:
        """COCO's figures in percent on the main process, None on the others."""
        gathered = comm.gather(self.detections, dst=0)
        if not comm.is_main_process():
            return None
        rows = np.concatenate([np.zeros((0, 7)), *itertools.chain(*gathered)])
        rows[:, 6] = self.category_ids[rows[:, 6].astype(int)]
        self._write(rows)
        if len(rows) == 0:
            logger.warning(
                "not one detection on %s, so its AP is 0: the model may be untrained, or MODEL.RETINANET.SCORE_THRESH_TEST too high", self.dataset_name
            )
            return OrderedDict(bbox=dict.fromkeys(METRICS, 0.0))
        coco_eval = hotcoco.COCOeval(self.ground_truth, self.ground_truth.loadRes(rows), "bbox")
        params = coco_eval.params
        params.cat_ids = sorted(self.category_ids.tolist())  # those of the card; the file may have more
        coco_eval.params = params
        coco_eval.evaluate()
        coco_eval.accumulate()
        with contextlib.redirect_stdout(io.StringIO()):  # its table is printed in our own form
            coco_eval.summarize()
        in_order_of_ids = [self.class_names[i] for i in self.category_ids.argsort()]
        curves = np.asarray(coco_eval.eval["precision"])[0, :, :, 0, -1]  # recall x class, at IoU 0.5, all areas, most detections
        (self.output_dir / PRECISION_RECALL).write_text(json.dumps({name: curves[:, k].tolist() for k, name in enumerate(in_order_of_ids)}))
        return OrderedDict(bbox=coco_figures(coco_eval, in_order_of_ids))

    def _write(self, rows: np.ndarray) -> None:
        """The detections as Detectron2 writes them."""
        names = {number: name for name, number in self.image_ids.items()}
        records = [
            {"image_id": names.get(row[0], int(row[0])), "category_id": int(row[6]), "bbox": row[1:5], "score": row[5]} for row in rows.tolist()
        ]
        (self.output_dir / "coco_instances_results.json").write_text(json.dumps(records))
