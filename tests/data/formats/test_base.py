"""The registry of formats, and the functions that several formats share."""

from retina_plugin.data.files import Listing
from retina_plugin.data.formats.base import FORMAT_REGISTRY, AnnotationFormat, folder_of_images, with_unique_stems


def test_formats_are_classes_with_a_name_and_a_title():
    kinds = dict(FORMAT_REGISTRY)
    assert list(kinds)[:3] == ["coco", "voc", "yolo"]
    assert all(issubclass(kind, AnnotationFormat) and kind.name == name and kind.title for name, kind in kinds.items())


def test_names_of_written_files_are_unique():
    records = [{"file_name": f"/d/{folder}/a.{suffix}"} for folder in ("x", "y") for suffix in ("png", "jpg")]
    assert len({name.casefold() for name in with_unique_stems(records).values()}) == 4


def test_the_folder_with_most_images_is_chosen_unless_it_is_of_another_split(tmp_path):
    for file in ("train/a.png", "train/b.png", "val/a.png", "x/sub/a.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    listing = Listing(tmp_path)
    assert folder_of_images(listing, ["a.png", "b.png"], "", None) == "train"
    assert folder_of_images(listing, ["a.png", "b.png"], "", "val") == "val"
    assert folder_of_images(listing, ["sub/a.png"], "", None) == "x"
    assert folder_of_images(listing, ["gone.png"], "", None) == "."
