"""Sources of a command line: files, folders, patterns, lists, videos, cameras, standard input."""

import io
import os

import pytest

from retina_plugin.inference.sources import find_sources


@pytest.fixture()
def photos(tmp_path, monkeypatch):
    for name in ("a.jpg", "b.PNG", "notes.doc", "deep/c.jpeg", "deep/clip.mp4", "with space [1].jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*words):
    sources = find_sources(words)
    return list(sources.images), list(sources.videos)


def test_a_folder_is_searched_with_its_subfolders(photos):
    assert found(".") == (["a.jpg", "b.PNG", "deep/c.jpeg", "with space [1].jpg"], ["deep/clip.mp4"])


@pytest.mark.parametrize(
    "pattern, images",
    [("*.jpg", ["a.jpg", "with space [1].jpg"]), ("**/*.jp*g", ["a.jpg", "deep/c.jpeg", "with space [1].jpg"])],
)
def test_patterns(photos, pattern, images):
    assert found(pattern) == (images, [])


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(photos):
    assert found("with space [1].jpg") == (["with space [1].jpg"], [])


def test_a_list_is_relative_to_itself_or_the_working_directory(photos):
    (photos / "deep/list.txt").write_text("c.jpeg\n\n  ../b.PNG \na.jpg\ngone.jpg\n")
    images, _ = found("deep/list.txt")
    assert [os.path.normpath(x) for x in images] == ["deep/c.jpeg", "b.PNG", "a.jpg", "deep/gone.jpg"]


def test_paths_on_stdin(photos, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a.jpg\ndeep/clip.mp4\n"))
    assert found("-") == (["a.jpg"], ["deep/clip.mp4"])


def test_each_image_once_in_the_order_given(photos):
    assert found("b.PNG", "a.jpg", ".")[0][:2] == ["b.PNG", "a.jpg"] and len(found("b.PNG", "a.jpg", ".")[0]) == 4


def test_cameras_and_addresses(photos):
    assert found("camera:1", "rtsp://host/live") == ([], ["camera:1", "rtsp://host/live"])


@pytest.mark.parametrize(
    "word, error, message",
    [
        ("gone.jpg", FileNotFoundError, "gone.jpg does not exist"),
        ("*.tif", FileNotFoundError, "matches nothing"),
        ("*.doc", FileNotFoundError, "matches 1 files that are not images"),
        ("notes.doc", ValueError, "neither an image"),
        ("empty", FileNotFoundError, "folder empty has no images"),
        ("empty.txt", ValueError, "names no images"),
        ("camera:first", ValueError, "the first one is camera:0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(photos, word, error, message):
    (photos / "empty").mkdir()
    (photos / "empty.txt").write_text("\n")
    with pytest.raises(error, match=message.replace(".", r"\.")):
        find_sources([word])
