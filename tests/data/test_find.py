"""A dataset by its folder, its card or its name."""

import pytest
import yaml
from conftest import ROOT

from retina_plugin.data.find import find_card


def test_by_name_by_card_and_by_folder(digits_root, tmp_path, monkeypatch):
    assert find_card("digits").file == ROOT / "datasets/digits.yaml"
    assert find_card(ROOT / "datasets/bccd.yaml").name == "bccd"
    assert find_card(digits_root).root == str(digits_root.resolve())
    (tmp_path / "datasets").mkdir()
    card = yaml.safe_load((ROOT / "datasets/bccd.yaml").read_text())
    (tmp_path / "datasets/mine.yaml").write_text(yaml.safe_dump({**card, "name": "mine"}))
    monkeypatch.chdir(tmp_path)
    assert find_card("mine").name == "mine"


def test_what_is_nowhere_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_card("nowhere")
