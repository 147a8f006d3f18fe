"""Pascal VOC: one XML an image, lists of names in ImageSets (Everingham et al. 2010)."""

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
"""Names of lists in ImageSets/Main, and the splits they are."""


@FORMAT_REGISTRY.register("voc")
class VocFormat(AnnotationFormat):
    """A folder of XML files. A source has "annotations" (the folder), and may have "images" (a folder), "image_set" (a list of names) and
    "box_origin": 0 (default: xmin counts from 0, as annotation tools write it) or 1 (the original VOC: pixels count from 1 and xmax is
    inside the box, so that xmin and ymin are lowered by one).
    """

    name, title = "voc", "VOC XML"

    def recognise(self, listing: Listing) -> Found:
        """Folders with XML files of which the root is <annotation>; ImageSets/Main beside them splits them."""
        found, folders, classes = Found(), defaultdict(list), defaultdict(set)
        for file in listing.with_suffix(".xml"):
            folder = os.path.dirname(file)
            try:
                tree, _ = read_xml(listing.path(file))
            except (FileNotFoundError, ValueError) as error:
                found.refused.append(Refused(file, str(error), split_of([folder])))
                continue
            if tree.tag == "annotation":
                folders[folder].append(file)
                classes[folder] |= {as_name(node.findtext("name")) for node in tree.iter("object")} - {None}
        found.refused = [
            refused for refused in found.refused if os.path.dirname(refused.file) not in folders
        ]  # reading names them
        for folder, files in folders.items():
            lists = _lists_of(listing, folder, files, only=len(folders) == 1)
            if not lists:
                found.add(split_of([folder]), {"annotations": folder or "."}, files)
            if "train" in lists.values() and any(PurePosixPath(file).stem == "train" for file in lists):
                lists = {file: split for file, split in lists.items() if PurePosixPath(file).stem != "trainval"}
            for file, split in lists.items():
                found.add(split, {"annotations": folder or ".", "image_set": file}, [*files, file])
        found.classes = sorted(set().union(*classes.values()))
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the XML files, those that the list names or, without one, all.

        Objects marked difficult are kept as crowd: they are no targets, and no false positives.
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
        image = self._image(
            tree, name, file, (height, width) if height and width else (None, None), len(objects), reading
        )
        if image is None:
            return
        image_id = reading.records[image]["image_id"]
        for number, node in enumerate(objects, start=1):
            label = reading.label_of(node.findtext("name"), file=str(file))
            if label is None:
                continue
            texts = [node.findtext(f"bndbox/{side}") for side in SIDES]
            box = [as_number(text) for text in texts]
            if None in box:
                what = (
                    "has a rotated box (robndbox), which is not read"
                    if node.find("robndbox") is not None
                    else f"bndbox must have four numbers, got {texts}"
                )
                reading.problem(Kind.ANNOTATION, file, what, image_id, number, boxes=1)
                continue
            reading.box(
                image,
                label,
                [box[0] - origin, box[1] - origin, box[2], box[3]],
                item=number,
                crowd=as_flag(node.findtext("difficult")),
            )

    @staticmethod
    def _image(
        tree: ElementTree.Element, name: str, file: Path, size: tuple, boxes: int, reading: Reading
    ) -> int | None:
        """The image: that which <filename> names, or that which has the name of the file; the second where both are there."""
        said = (tree.findtext("filename") or "").strip()
        stem = PurePosixPath(said.replace("\\", "/")).stem
        for candidate in ([said] if said and stem == name else []) + [name] + ([said] if said else []):
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
        """Write Annotations/*.xml and ImageSets/Main/<split>.txt; boxes keep hundredths of a pixel."""
        (folder / "Annotations").mkdir()
        (folder / "ImageSets/Main").mkdir(parents=True)
        splits: dict[str, list[Source]] = {}
        names = with_unique_stems([record for found in records.values() for record in found])
        for split, found in records.items():
            for record in found:
                tree = _xml_of(record, classes, folder)
                tree.write(folder / "Annotations" / f"{names[id(record)]}.xml", encoding="utf-8", xml_declaration=True)
            (folder / f"ImageSets/Main/{split}.txt").write_text(
                "".join(f"{names[id(record)]}\n" for record in found), encoding="utf-8"
            )
            splits[split] = [{"annotations": "Annotations", "image_set": f"ImageSets/Main/{split}.txt"}]
        return splits


def _xml_of(record: dict, classes: list[str], folder: Path) -> ElementTree.ElementTree:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = os.path.relpath(
        record["file_name"], folder / "Annotations"
    ).replace(os.sep, "/")
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


def _lists_of(listing: Listing, folder: str, files: list[str], *, only: bool) -> dict[str, str]:
    """Lists of names that split a folder of XML files: in ImageSets/Main of the same data set; file -> split."""
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
    """Names of a list, each once: the whole line, or its first word where VOC writes a flag after it."""
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
