"""Clean copies of annotations, as COCO JSON; the originals are never touched."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import yaml

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.check import CheckReport
from retina_plugin.data.image_files import size_of


def mended(report: CheckReport) -> tuple[dict[str, list[dict]], list[str]]:
    """The records without errors, and a line for everything that was changed.

    What cannot be read is left out, what is there twice stays once, an image in two splits stays in the first; an image of another size
    keeps its boxes if they fit into it as it is.

    Args:
        report: of :func:`check_card`.
    """
    drop, changes = defaultdict(set), [f"{finding.split}: {finding.problem}" for finding in report.findings if finding.group == "reading"]
    wrong_size = set()
    for finding in report.findings:
        if finding.group in ("image", "split", "twice"):
            drop[finding.split].add(finding.problem.file)
            changes.append(f"{finding.split}: {finding.problem.file}: {finding.problem.what}: image left out")
        elif finding.group == "size":
            wrong_size.add(finding.problem.file)
    result: dict[str, list[dict]] = {}
    for split, records in report.records.items():
        kept = result[split] = []
        for record in records:
            if record["file_name"] in drop[split]:
                continue
            record = {**record, "annotations": _without_duplicates(record, split, changes)}
            if record["file_name"] in wrong_size:
                record["height"], record["width"] = size_of(record["file_name"])
                if any(box[2] > record["width"] + 1 or box[3] > record["height"] + 1 for box in (x["bbox"] for x in record["annotations"])):
                    changes.append(f"{split}: {record['file_name']}: boxes do not fit into its {record['width']}x{record['height']}: image left out")
                    continue
                changes.append(f"{split}: {record['file_name']}: size set to {record['width']}x{record['height']}")
            kept.append(record)
    return result, changes


def _without_duplicates(record: dict, split: str, changes: list[str]) -> list[dict]:
    kept, seen = [], set()
    for annotation in record["annotations"]:
        key = (annotation["category_id"], *(round(v, 2) for v in annotation["bbox"]))
        if key in seen:
            changes.append(f"{split}: {record['file_name']}: box {list(key[1:])} is there twice: one left out")
            continue
        seen.add(key)
        kept.append(annotation)
    return kept


def to_coco(records: Iterable[dict], classes: list[str], *, relative_to: Path) -> dict:
    """COCO's JSON of Detectron2's dataset dicts; ids count from 1, boxes are rounded to hundredths of a pixel.

    Args:
        records: with boxes XYXY_ABS.
        classes: K names; category ids are 1..K.
        relative_to: folder from which "file_name" counts.
    """
    images, annotations = [], []
    for number, record in enumerate(records, start=1):
        name = os.path.relpath(record["file_name"], relative_to)
        images.append({"id": number, "file_name": name, "width": record["width"], "height": record["height"]})
        for x in record["annotations"]:
            x1, y1, x2, y2 = x["bbox"]
            box = [round(float(v), 2) for v in (x1, y1, x2 - x1, y2 - y1)]
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": x["category_id"] + 1, "bbox": box,
                "area": round(box[2] * box[3], 2), "iscrowd": x["iscrowd"], "segmentation": [],
            })  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]}


def write_coco(card: DatasetCard, records: dict[str, list[dict]], folder: str | os.PathLike, *, name: str) -> Path:
    """Write ``instances_<split>.json`` of every split and a card to ``folder``; images stay where they are.

    Args:
        card: of the data that the records are from.
        records: by split, Detectron2's dataset dicts with boxes XYXY_ABS.
        folder: made if it is not there.
        name: of the new dataset.

    Returns:
        The path of the card.

    Raises:
        FileExistsError: there is another file of that name.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"instances_{split}.json": json.dumps(to_coco(found, card.classes, relative_to=folder)) for split, found in records.items()}
    splits = {split: {"images": ".", "annotations": f"instances_{split}.json"} for split in records}
    described = {"name": name, "format": "coco", "root": str(folder), "classes": card.classes, "splits": splits, "licence": card.licence, "source": card.source}
    texts[f"{name}.yaml"] = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    if there := [file for file in texts if (folder / file).exists()]:
        raise FileExistsError(f"{folder} has {', '.join(there)} already; give another --output")
    for file, text in texts.items():
        (folder / file).write_text(text)
    return folder / f"{name}.yaml"
