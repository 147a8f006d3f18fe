"""Pascal VOC: one XML file per image, with lists of names in ImageSets (Everingham et al. 2010)."""

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from retina_plugin.data.files import SPLIT_WORDS, AmbiguousImageError, Listing, split_of
from retina_plugin.data.formats.base import (
    FORMAT_REGISTRY,
    AnnotationFormat,
    Found,
    Reading,
    Refused,
    Source,
    with_unique_stems,
)
from retina_plugin.data.image_files import SUFFIXES
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_name, as_number, as_size
from retina_plugin.text import read_text, read_xml

SIDES = ("xmin", "ymin", "xmax", "ymax")
LISTS = {**SPLIT_WORDS, "trainval": "train"}
"""Name of a list in ImageSets/Main to its split."""


@FORMAT_REGISTRY.register("voc")
class VocFormat(AnnotationFormat):
    """A folder of XML files.

    A source has "annotations" (the folder), and may have:

    "images": a folder of images.
    "image_set": a list of names.
    "box_origin": 0 (default: xmin is counted from 0, as annotation tools write it) or 1 (the original VOC: pixels are
    counted from 1 and xmax is inside the box, so xmin and ymin are reduced by one).
    """

    name, title = "voc", "VOC XML"

    def recognise(self, listing: Listing) -> Found:
        """Find the folders with XML files whose root is <annotation>, and their splits in ImageSets/Main."""
        found = Found()
        folders: dict[str, list[str]] = defaultdict(list)
        classes: set[str] = set()
        for file in listing.with_suffix(".xml"):
            folder = os.path.dirname(file)
            try:
                tree, _ = read_xml(listing.path(file))
            except (FileNotFoundError, ValueError) as error:
                found.refused.append(Refused(file, str(error), split_of([folder])))
                continue
            if tree.tag == "annotation":
                folders[folder].append(file)
                names = (as_name(node.findtext("name")) for node in tree.iter("object"))
                classes |= {name for name in names if name is not None}
        # A broken file among good ones is reported when its folder is read.
        found.refused = [refused for refused in found.refused if os.path.dirname(refused.file) not in folders]
        for folder, files in folders.items():
            lists = _lists_of(listing, folder, only=len(folders) == 1)
            if not lists:
                found.add(split_of([folder]), {"annotations": folder or "."}, files)
            if "train" in lists.values() and any(PurePosixPath(file).stem == "train" for file in lists):
                lists = {file: split for file, split in lists.items() if PurePosixPath(file).stem != "trainval"}
            for file, split in lists.items():
                found.add(split, {"annotations": folder or ".", "image_set": file}, [*files, file])
        found.classes = sorted(classes)
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the XML files that the list names or, without a list, all.

        Objects marked as difficult are kept as crowd: they are neither targets nor false positives.

        Raises:
            ValueError: box_origin is neither 0 nor 1.
        """
        folder = reading.path("annotations")
        reading.path("images", default=".")
        origin = source.get("box_origin", 0)
        if origin not in (0, 1):
            raise ValueError(f"box_origin must be 0 or 1, got {origin!r}")
        files = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() == ".xml"}
        names = list(files)
        if "image_set" in source:
            list_file = reading.path("image_set")
            reading.files.add(str(list_file))
            names = _names_in(list_file, files, reading)
        for name in names:
            if name not in files:
                reading.problem(Kind.MISSING, folder / f"{name}.xml", "does not exist", name, images=1)
            else:
                self._read_file(files[name], name, origin, reading)

    def _read_file(self, file: Path, name: str, origin: int, reading: Reading) -> None:
        """Read the image and the objects of one file."""
        try:
            tree, guessed = read_xml(file)
        except (FileNotFoundError, ValueError) as error:
            reading.problem(Kind.FILE, file, str(error), name, images=1)
            return
        if tree.tag != "annotation":
            return  # another kind of XML
        reading.files.add(str(file))
        if guessed:
            reading.problem(Kind.ENCODING, file, f"is read as {guessed}", name, done="used")
        objects = list(tree.iter("object"))
        height, width = (as_size(tree.findtext(f"size/{key}")) for key in ("height", "width"))
        size = (height, width) if height and width else (None, None)
        image = self._image(tree, name, file, size, len(objects), reading)
        if image is None:
            return
        image_id = reading.records[image]["image_id"]
        for number, node in enumerate(objects, start=1):
            label = reading.label_of(node.findtext("name"), file=str(file))
            if label is None:
                continue
            box = _box_of(node, origin)
            if isinstance(box, str):
                reading.problem(Kind.ANNOTATION, file, box, image_id, number, boxes=1)
            else:
                reading.box(image, label, box, item=number, crowd=as_flag(node.findtext("difficult")))

    @staticmethod
    def _image(
        tree: ElementTree.Element,
        name: str,
        file: Path,
        size: tuple[int | None, int | None],
        boxes: int,
        reading: Reading,
    ) -> int | None:
        """Return the number of the image of an XML file, or None if it is missing or ambiguous, which is reported.

        The image has the name of the XML file, or the one in <filename>; the former is preferred if both exist.
        """
        said = (tree.findtext("filename") or "").strip()
        stem = PurePosixPath(said.replace("\\", "/")).stem
        # If both names agree, <filename> comes first: it has the suffix.
        candidates = [name, said] if said else [name]
        if said and stem == name:
            candidates.reverse()
        for candidate in candidates:
            try:
                path, _ = reading.finder.find(candidate, near=file.parent)
            except AmbiguousImageError as error:
                reading.problem(Kind.MISSING, file, str(error), name, boxes=boxes, images=1)
                return None
            except LookupError:
                continue
            return reading.add_image(path, file=str(file), image_id=name, size=size)
        return reading.image(said or f"{name}.jpg", file=str(file), image_id=name, boxes=boxes)

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write Annotations/*.xml and ImageSets/Main/<split>.txt; boxes are rounded to 1/10,000 pixel."""
        (folder / "Annotations").mkdir()
        (folder / "ImageSets/Main").mkdir(parents=True)
        splits: dict[str, list[Source]] = {}
        names = with_unique_stems([record for found in records.values() for record in found])
        for split, found in records.items():
            for record in found:
                tree = _xml_of(record, classes, folder)
                tree.write(folder / "Annotations" / f"{names[id(record)]}.xml", encoding="utf-8", xml_declaration=True)
            lines = [f"{names[id(record)]}\n" for record in found]
            (folder / f"ImageSets/Main/{split}.txt").write_text("".join(lines), encoding="utf-8")
            splits[split] = [{"annotations": "Annotations", "image_set": f"ImageSets/Main/{split}.txt"}]
        return splits


def _box_of(node: ElementTree.Element, origin: int) -> list[float] | str:
    """Return the XYXY box of an object, or what is wrong with it."""
    texts = [node.findtext(f"bndbox/{side}") for side in SIDES]
    box = [number for text in texts if (number := as_number(text)) is not None]
    if len(box) == len(SIDES):
        return [box[0] - origin, box[1] - origin, box[2], box[3]]
    if node.find("robndbox") is not None:
        return "has a rotated box (robndbox), which is not supported"
    return f"bndbox must have four numbers, got {texts}"


def _xml_of(record: dict, classes: list[str], folder: Path) -> ElementTree.ElementTree:
    """Return the annotations of one image as VOC's XML."""
    root = ElementTree.Element("annotation")
    name = os.path.relpath(record["file_name"], folder / "Annotations").replace(os.sep, "/")
    ElementTree.SubElement(root, "filename").text = name
    size = ElementTree.SubElement(root, "size")
    for key in ("width", "height"):
        ElementTree.SubElement(size, key).text = str(record[key])
    ElementTree.SubElement(size, "depth").text = "3"
    for x in record["annotations"]:
        node = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(node, "name").text = classes[x["category_id"]]
        ElementTree.SubElement(node, "difficult").text = str(x["iscrowd"])
        box = ElementTree.SubElement(node, "bndbox")
        for side, value in zip(SIDES, x["bbox"], strict=True):
            ElementTree.SubElement(box, side).text = f"{value:.4f}".rstrip("0").rstrip(".")
    return ElementTree.ElementTree(root)


def _lists_of(listing: Listing, folder: str, *, only: bool) -> dict[str, str]:
    """Return the lists of names in ImageSets/Main that split a folder of XML files.

    Args:
        listing: files of the dataset.
        folder: folder of the XML files.
        only: whether it is the only such folder, so that lists elsewhere belong to it, too.

    Returns:
        File of each list to its split.
    """
    parent = os.path.dirname(folder)
    found = {}
    for file in listing.with_suffix(".txt"):
        path = PurePosixPath(file)
        if "ImageSets" not in path.parts or path.stem.lower() not in LISTS:
            continue
        base = "/".join(path.parts[: path.parts.index("ImageSets")])
        if (base == parent or (only and len(path.parts) > 1)) and path.parent.name in ("Main", "ImageSets"):
            found[file] = LISTS[path.stem.lower()]
    return found


def _names_in(file: Path, known: dict, reading: Reading) -> list[str]:
    """Return the names in a list, each once.

    A name is the whole line, with or without folder and suffix, or the line without the flag (-1, 0, 1) at its end.
    """
    text, _ = read_text(file)
    names: dict[str, None] = {}
    for line in text.splitlines():
        line = line.strip()
        if not line:
            continue
        whole = PurePosixPath(line.replace("\\", "/"))
        forms = [line, whole.name, whole.stem if whole.suffix.lower() in (*SUFFIXES, ".xml") else whole.name]
        words = line.rsplit(None, 1)
        if len(words) == 2 and words[1] in ("-1", "0", "1"):
            forms.append(words[0].strip())
        name = next((form for form in forms if form in known), forms[-1])
        if name in names:
            reading.problem(Kind.MERGED, file, "is listed twice", shown(name), done="used once")
        names[name] = None
    return list(names)
