"""The ground truth that a dataset is scored against: the records that training would see, with images renumbered."""

import logging
import sys
from dataclasses import dataclass

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode

from retina_plugin.data.catalog import result_of

logger = logging.getLogger(__name__)


@dataclass
class GroundTruth:
    """Cleaned records in the format that ``pycocotools`` expects.

    Attributes:
        coco: images numbered from 1, categories label + 1, boxes (x, y, width, height).
        numbers: number of each image, by its id and by its file name.
        original_ids: id of each image in the annotations, by number.
        original_categories: id of each class in the annotations, by label; label + 1 if unknown.
        labelled: whether there are any annotations; a test set may come without.
        class_names: K names.
    """

    coco: dict
    numbers: dict
    original_ids: dict
    original_categories: list[int]
    labelled: bool
    class_names: list[str]

    @classmethod
    def of(cls, dataset_name: str) -> "GroundTruth":
        """Read a registered dataset, leaving out the same faulty images and boxes as training does.

        Raises:
            KeyError: the dataset is not registered.
            ValueError: it has no usable image, or a label outside its classes.
        """
        # No limit on pixels: images that the loader leaves out are not processed, and therefore not scored.
        records = result_of(dataset_name, max_pixels=sys.maxsize).records
        if not records:
            raise ValueError(f"dataset {dataset_name} has no image that can be evaluated")
        metadata = MetadataCatalog.get(dataset_name)
        labels = {x["category_id"] for record in records for x in record.get("annotations") or ()}
        names = list(metadata.get("thing_classes") or [str(i) for i in range(max(labels, default=0) + 1)])
        if wrong := sorted(label for label in labels if not 0 <= label < len(names)):
            shown = [*names[:5], "..."] if len(names) > 5 else names
            raise ValueError(
                f"dataset {dataset_name} has the label {wrong[0]}, but {len(names)} classes ({', '.join(shown)}): "
                f"labels are 0..{len(names) - 1}"
            )
        images: list[dict] = []
        annotations: list[dict] = []
        numbers: dict = {}
        for number, record in enumerate(records, start=1):
            numbers[record["file_name"]] = numbers[record["image_id"]] = number
            images.append(
                {"id": number, "file_name": record["file_name"], "height": record["height"], "width": record["width"]}
            )
            for x in record.get("annotations") or ():
                box = [float(v) for v in BoxMode.convert(list(x["bbox"]), x["bbox_mode"], BoxMode.XYWH_ABS)]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": x["category_id"] + 1,
                        "bbox": box,
                        "area": float(x.get("area", box[2] * box[3])),
                        "iscrowd": int(x.get("iscrowd", 0)),
                    }
                )
        to_label = metadata.get("thing_dataset_id_to_contiguous_id") or {}
        known = {label: original for original, label in to_label.items()}
        return cls(
            coco={
                "info": {},
                "images": images,
                "annotations": annotations,
                "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
            },
            numbers=numbers,
            original_ids={numbers[record["image_id"]]: record["image_id"] for record in records},
            original_categories=[known.get(label, label + 1) for label in range(len(names))],
            labelled=any("annotations" in record for record in records),
            class_names=names,
        )

    def of_images(self, numbers: set[int], dataset_name: str) -> dict:
        """Return the annotations of the images that were processed.

        An image that turned out to be unreadable is not scored, just as it is not trained on.

        Args:
            numbers: of the processed images.
            dataset_name: for the warning about images left out.
        """
        left_out = len(self.original_ids) - len(numbers)
        if not left_out:
            return self.coco
        logger.warning(
            "dataset %s: %d of %d images were not processed and are not scored",
            dataset_name,
            left_out,
            len(self.original_ids),
        )
        images = [image for image in self.coco["images"] if image["id"] in numbers]
        return {
            **self.coco,
            "images": images,
            "annotations": [x for x in self.coco["annotations"] if x["image_id"] in numbers],
        }

    def number_of(self, record: dict) -> int | None:
        """Return the number of the image of a dataset dict; None if the dataset has no such image."""
        number = self.numbers.get(record.get("image_id"))
        return self.numbers.get(record.get("file_name")) if number is None else number

    def known_number_of(self, record: dict, dataset_name: str) -> int:
        """Return the number of the image of a dataset dict.

        Raises:
            ValueError: the dataset has no such image.
        """
        number = self.number_of(record)
        if number is None:
            raise ValueError(f"dataset {dataset_name} has no image {record.get('image_id', record.get('file_name'))!r}")
        return number
