"""What a reader can rely on."""

import pytest

from retina_plugin.data.formats.base import FORMAT_REGISTRY, split_path


def test_both_formats_are_registered():
    assert {name for name, _ in FORMAT_REGISTRY} >= {"coco", "voc"}


def test_a_missing_key_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="no 'images'"):
        split_path(tmp_path, {"annotations": "a.json"}, "images")
    with pytest.raises(FileNotFoundError, match="a.json does not exist"):
        split_path(tmp_path, {"annotations": "a.json"}, "annotations")
