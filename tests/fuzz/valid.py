"""Small valid inputs, from which the fuzzer starts: dataset folders, cards, YAML files, image files."""

import functools
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from PIL import Image

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.export import writable, write_dataset
from retina_plugin.data.load import load_split

SIZES = {"a.jpg": (20, 30), "b c.png": (16, 24), "d.bmp": (12, 12)}
"""(height, width) of the pictures of every folder."""

BOXES = {"a.jpg": [("cat", 1, 2, 11, 12), ("dog", 4.5, 3, 29, 19.5)], "b c.png": [("dog", 0, 0, 24, 16)], "d.bmp": []}
"""(class, x1, y1, x2, y2) of the objects of each picture."""

CLASSES = ["cat", "dog"]


def pixels(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """Return noise that is the same each time, (height, width, channels), or (height, width) for one channel."""
    high = 2**16 if dtype == np.uint16 else 256
    return np.random.default_rng(height * width).integers(0, high, (height, width, channels)).astype(dtype).squeeze()


@functools.cache
def pictures() -> dict[str, bytes]:
    """Return the image files of :data:`SIZES` by name."""
    return {name: cv2.imencode(name[name.rfind(".") :], pixels(*size))[1].tobytes() for name, size in SIZES.items()}


def coco() -> dict:
    """Return the data as COCO JSON, with a crowd region."""
    annotations: list[dict] = []
    for number, boxes in enumerate(BOXES.values(), start=1):
        for label, x1, y1, x2, y2 in boxes:
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": CLASSES.index(label) + 1}
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            annotations.append({**annotation, **box, "iscrowd": 0, "segmentation": [[x1, y1, x2, y1, x2, y2]]})
    crowd = {"id": 9, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9]}
    annotations.append({**crowd, "segmentation": {"size": [20, 30], "counts": [10, 5, 585]}})
    images = [
        {"id": i, "file_name": name, "height": size[0], "width": size[1]}
        for i, (name, size) in enumerate(SIZES.items(), start=1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _labelme(image: str) -> dict:
    """Return the labelme JSON of an image."""
    shapes = [
        {"label": label, "shape_type": "rectangle", "points": [[x1, y1], [x2, y2]], "flags": {}}
        for label, x1, y1, x2, y2 in BOXES[image]
    ]
    shapes.append({"label": "cat", "shape_type": "polygon", "points": [[1, 1], [9, 2], [5, 8]], "group_id": None})
    height, width = SIZES[image]
    size = {"imageHeight": height, "imageWidth": width}
    return {"version": "5.0", "imagePath": image, **size, "imageData": None, "shapes": shapes}


def _via() -> dict:
    """Return the data as VIA JSON, with a circle in each image."""
    circle = {"name": "circle", "cx": 6, "cy": 6, "r": 4}
    entries = {}
    for name, boxes in BOXES.items():
        shapes = [(_via_rect(*box), label) for label, *box in boxes] + [(circle, "dog")]
        regions = [{"shape_attributes": shape, "region_attributes": {"class": label}} for shape, label in shapes]
        size = len(pictures()[name])
        entries[f"{name}{size}"] = {"filename": name, "size": size, "regions": regions, "file_attributes": {}}
    return entries


def _via_rect(x1: float, y1: float, x2: float, y2: float) -> dict:
    """Return a box as a shape of VIA."""
    return {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}


def _via_csv() -> str:
    """Return the data as VIA's CSV."""
    rows = ["filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"]
    for image, boxes in BOXES.items():
        for label, *box in boxes:
            cells = (json.dumps(value, separators=(",", ":")) for value in (_via_rect(*box), {"class": label}))
            shape, attributes = (cell.replace('"', '""') for cell in cells)
            rows.append(f'{image},9,"{{}}",1,0,"{shape}","{attributes}"')
    return "\n".join([*rows, ""])


def _cvat() -> str:
    """Return the data as CVAT XML."""
    images = []
    for i, (name, (height, width)) in enumerate(SIZES.items()):
        boxes = "".join(
            f'<box label="{label}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"></box>'
            for label, x1, y1, x2, y2 in BOXES[name]
        )
        boxes += '<polygon label="cat" points="1.0,1.0;9.0,2.0;5.0,8.0"></polygon>'
        images.append(f'<image id="{i}" name="{name}" width="{width}" height="{height}">{boxes}</image>')
    labels = "".join(f"<label><name>{name}</name><attributes></attributes></label>" for name in CLASSES)
    meta = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?><annotations>{meta}{"".join(images)}</annotations>'


def _voc(image: str) -> str:
    """Return the VOC XML of an image."""
    objects = ""
    for label, x1, y1, x2, y2 in BOXES[image]:
        box = f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
        objects += f"<object><name>{label}</name><difficult>0</difficult>{box}</object>"
    height, width = SIZES[image]
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{image}</filename>{size}{objects}</annotation>"


def _stem(image: str) -> str:
    """Return the name of an image without its suffix."""
    return image[: image.rfind(".")]


def _yolo(image: str) -> str:
    """Return the YOLO label file of an image."""
    height, width = SIZES[image]
    lines = []
    for label, x1, y1, x2, y2 in BOXES[image]:
        values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(f"{CLASSES.index(label)} {' '.join(f'{value:.6f}' for value in values)}\n")
    return "".join(lines)


def _csv(header: str, row: str, separator: str = ",") -> str:
    """Return the data as CSV; ``row`` is a format string with the names of the values."""
    rows = [
        row.format(image=image, label=label, x1=x1, y1=y1, x2=x2, y2=y2, w=x2 - x1, h=y2 - y1)
        for image, boxes in BOXES.items()
        for label, x1, y1, x2, y2 in boxes
    ]
    return "\n".join([header, *rows, ""]).replace(",", separator)


@functools.cache
def folders() -> dict[str, dict[str, bytes]]:
    """Return dataset folders by name, each with its files, path to content."""
    images = pictures()
    below = {f"images/{name}": data for name, data in images.items()}
    semicolons = _csv("filename,x,y,width,height,class", "{image},{x1},{y1},{w},{h},{label}", ";")
    texts: dict[str, dict[str, str]] = {
        "coco": {"train.json": json.dumps(coco()), "val.json": json.dumps(coco())},
        "voc": {f"{_stem(name)}.xml": _voc(name) for name in SIZES},
        "labelme": {f"{_stem(name)}.json": json.dumps(_labelme(name)) for name in SIZES},
        "via": {"via.json": json.dumps(_via())},
        "via_csv": {"via.csv": _via_csv()},
        "cvat": {"annotations.xml": _cvat()},
        "csv": {"boxes.csv": _csv("image_path,xmin,ymin,xmax,ymax,label", "{image},{x1},{y1},{x2},{y2},{label}")},
        "csv_semicolon": {"boxes.csv": semicolons},
        "yolo_beside": {**{f"{_stem(name)}.txt": _yolo(name) for name in SIZES}, "classes.txt": "cat\ndog\n"},
        "darknet": {
            **{f"obj_train_data/{_stem(name)}.txt": _yolo(name) for name in SIZES},
            "obj.names": "cat\ndog\n",
            "train.txt": "".join(f"data/obj_train_data/{name}\n" for name in SIZES),
            "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        },
    }
    found = {name: {**images, **{path: text.encode() for path, text in files.items()}} for name, files in texts.items()}
    found["darknet"] |= {f"obj_train_data/{name}": data for name, data in images.items()}
    found["yolo"] = {
        **below,
        **{f"labels/{_stem(name)}.txt": _yolo(name).encode() for name in SIZES},
        "data.yaml": b"path: .\ntrain: images\nval: images\nnc: 2\nnames:\n  0: cat\n  1: dog\n",
    }
    sets = {"ImageSets/Main/train.txt": b"a\nb c\n", "ImageSets/Main/val.txt": b"d\n"}
    found["voc_devkit"] = {
        **{f"JPEGImages/{name}": data for name, data in images.items()},
        **{f"Annotations/{_stem(name)}.xml": _voc(name).encode() for name in SIZES},
        **sets,
    }
    return found | _written()


WRITTEN = "written"
"""Subfolder for data that the plugin has written."""


def _written() -> dict[str, dict[str, bytes]]:
    """Return the data as the plugin writes it, in every format that can be written, with its card."""
    found: dict[str, dict[str, bytes]] = {}
    for kind in writable():
        with tempfile.TemporaryDirectory() as place:
            root, folder = Path(place), Path(place, WRITTEN)
            for name, data in {**pictures(), "train.json": json.dumps(coco()).encode()}.items():
                (root / name).write_bytes(data)
            splits = {"train": {"images": ".", "annotations": "train.json"}}
            file = root / "pets.yaml"
            card = DatasetCard("pets", "coco", CLASSES, splits, str(root), "none", "generated", file=file)
            write_dataset(card, {"train": load_split(card, "train").records}, folder, name=f"pets_{kind}", format=kind)
            here = f"root: {folder.resolve()}".encode()
            written = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            files = {p.relative_to(root).as_posix(): p.read_bytes().replace(here, b"root: .") for p in written}
        found[f"written_{kind}"] = {**pictures(), **files}
    return found


@functools.cache
def cards() -> dict[str, bytes]:
    """Return cards for the folder "coco", by name."""
    first, second = ({"images": ".", "annotations": f"{split}.json"} for split in ("train", "val"))
    facts = {"name": "pets", "format": "coco", "root": "data", "classes": CLASSES, "licence": "none"}
    plain = {
        **facts,
        "source": "generated",
        "seed": 3,
        "splits": {"train": {**first, "part": [0.0, 0.5]}, "val": {**first, "part": [0.5, 1.0]}},
    }
    several = {
        **plain,
        "splits": {"train": [first, second]},
        "value_range": [0.0, 255.0],
        "left_out": {"x.json": "is none"},
    }
    found = {"parts": plain, "sources": several}
    return {name: yaml.safe_dump(card, sort_keys=False).encode() for name, card in found.items()}


ROOT = Path(__file__).parents[2]


@functools.cache
def yamls() -> dict[str, bytes]:
    """Return some of the configs and sweeps of the project, with absolute paths to their bases."""
    found: dict[str, bytes] = {}
    names = ("digits/quickstart.yaml", "ablations/table_1b.yaml", "ablations/levels.yaml", "finetune.yaml")
    for name in names:
        file = ROOT / "configs" / name
        # A YAML file names its base relative to itself.
        parts = re.split(r"((?:base: |_BASE_: )[\w./-]+\.yaml)", file.read_text(encoding="utf-8"))
        for i in range(1, len(parts), 2):
            key, _, base = parts[i].partition(" ")
            parts[i] = f"{key} {(file.parent / base).resolve()}"
        found[f"configs/{name}"] = "".join(parts).encode()
    return found


def _with_pillow(image: np.ndarray, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """Return an image, (H, W) or (H, W, 3), as a file that Pillow writes."""
    out = io.BytesIO()
    opened = Image.fromarray(image)
    (opened.convert(mode) if mode else opened).save(out, kind, **options)
    return out.getvalue()


@functools.cache
def images() -> dict[str, bytes]:
    """Return image files of every format and depth, by name."""
    rgb, grey, deep = pixels(18, 26), pixels(18, 26, 1), pixels(18, 26, 1, np.uint16)
    exif = Image.Exif()
    exif[274] = 6
    frames = [Image.fromarray(pixels(9 + i, 14, 1)[:9]) for i in range(3)]
    gif = io.BytesIO()
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    floats = io.BytesIO()
    Image.fromarray(deep.astype(np.float32) / 9).save(floats, "TIFF")
    return {
        "rgb.jpg": _with_pillow(rgb, "JPEG"),
        "turned.jpg": _with_pillow(rgb, "JPEG", exif=exif),
        "cmyk.jpg": _with_pillow(rgb, "JPEG", "CMYK"),
        "progressive.jpg": _with_pillow(rgb, "JPEG", progressive=True),
        "grey.png": _with_pillow(grey, "PNG"),
        "palette.png": _with_pillow(rgb, "PNG", "P"),
        "alpha.png": _with_pillow(rgb, "PNG", "RGBA"),
        "deep.png": cv2.imencode(".png", deep)[1].tobytes(),
        "one_bit.png": _with_pillow(grey, "PNG", "1"),
        "rgb.bmp": _with_pillow(rgb, "BMP"),
        "rgb.webp": _with_pillow(rgb, "WEBP"),
        "lossless.webp": _with_pillow(rgb, "WEBP", lossless=True),
        "rgb.tif": _with_pillow(rgb, "TIFF"),
        "packed.tif": _with_pillow(rgb, "TIFF", compression="tiff_lzw"),
        "deep.tif": cv2.imencode(".tiff", deep)[1].tobytes(),
        "float.tif": floats.getvalue(),
        "moving.gif": gif.getvalue(),
        "rgb.ppm": _with_pillow(rgb, "PPM"),
        "grey.pgm": cv2.imencode(".pgm", grey)[1].tobytes(),
    }
