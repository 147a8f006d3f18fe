"""Listings of folders, and images and folders found by the names in annotations."""

import os
import unicodedata

import pytest

from retina_plugin.data.files import ImageFinder, Listing, forms_of, is_regular, relative, split_of


@pytest.fixture()
def folder(tmp_path):
    for name in ("train/a.png", "val/a.png", "train/B.JPG", "val/only.png", "x [1].png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_listing_follows_no_loop_and_separates_what_is_not_a_file(folder):
    os.mkfifo(folder / "pipe.png")
    (folder / "train/again").symlink_to(folder)
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / ".hidden").mkdir()
    (folder / ".hidden/h.png").touch()
    listing = Listing(folder)
    assert listing.images == ["train/B.JPG", "train/a.png", "val/a.png", "val/only.png", "x [1].png"]
    assert listing.special == ["gone.png", "pipe.png", "self.png"]


@pytest.mark.parametrize(
    "name, split, found",
    [
        ("train/a.png", None, "train/a.png"),
        ("/home/me/pets/train/a.png", None, "train/a.png"),
        ("C:\\pets\\val\\a.png", None, "val/a.png"),
        ("a.png", "val", "val/a.png"),
        ("b.jpg", "train", "train/B.JPG"),
        ("b.png", "train", "train/B.JPG"),
        ("x%20[1].png", None, "x [1].png"),
        ("/data/local-files/?d=val/only.png", None, "val/only.png"),
        (" only.png ", None, "val/only.png"),
    ],
)
def test_images_are_found_by_the_end_of_their_path(folder, name, split, found):
    assert ImageFinder(folder, split=split).find(name)[0] == str(folder / found)


@pytest.mark.parametrize(
    "name, said",
    [
        ("a.png", "may be"),
        ("gone.png", "does not exist"),
        ("", "empty"),
        (5, "must be text"),
        ("a\0b", "not a path"),
        ("notes.txt", "does not exist"),
        ("x" * 5000, "not a path"),
    ],
)
def test_names_that_match_no_single_image_are_errors(folder, name, said):
    with pytest.raises(LookupError, match=said):
        ImageFinder(folder).find(name)


def test_images_of_a_different_split_do_not_match(folder):
    with pytest.raises(LookupError, match="does not exist"):
        ImageFinder(folder, split="train").find("only.png")


def test_files_outside_of_the_folder_have_to_be_allowed(folder, tmp_path_factory):
    away = tmp_path_factory.mktemp("away") / "z.png"
    away.touch()
    for name in (str(away), os.path.relpath(away, folder)):
        with pytest.raises(LookupError, match="outside: true"):
            ImageFinder(folder).find(name)
        assert ImageFinder(folder, outside=True).find(name) == (str(away), True)


def test_decomposed_names_match_composed_ones(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "Käfer.png")).touch()
    assert ImageFinder(tmp_path).find("Käfer.png")[0].endswith(".png")


def test_folders_match_by_the_end_of_their_path(tmp_path):
    (tmp_path / "images/train").mkdir(parents=True)
    listing = Listing(tmp_path)
    assert listing.find_folder("D:\\a\\images\\train") == "images/train"
    assert listing.find_folder("../images/train/") == "images/train"
    assert listing.find_folder("/x/val/images") is None, "the images of val are not all images"


def test_splits_in_names_urls_and_relative_paths(tmp_path):
    assert split_of(["a", "validation_set"]) == "val" and split_of(["contest"]) is None
    assert forms_of("file:///a/b.png")[-1] == "/a/b.png"
    assert not is_regular(tmp_path) and relative(tmp_path / "a/b", tmp_path) == "a/b"
