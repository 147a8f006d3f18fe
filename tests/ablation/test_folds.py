"""Cross-validation: the division into folds. The trainings are tested through `retina data review`."""

import pytest

from retina_plugin.ablation import folds
from retina_plugin.data.discover import find_card
from retina_plugin.data.load import load_split


@pytest.mark.parametrize("count", [0, 1, 9])
def test_the_number_of_folds_has_to_fit(digits_root, tmp_path, count):
    card = find_card(digits_root)
    with pytest.raises(ValueError, match="from 2 to the number of images, 8"):
        folds.cross_validated(card, load_split(card, "train").records, tmp_path, folds=count, config_file="x.yaml")


def test_each_image_is_held_out_once_and_the_seed_decides(digits_root, tmp_path, monkeypatch):
    card = find_card(digits_root)
    records = load_split(card, "train").records

    def held_out(name, seed):
        """The files that each fold holds out, from the datasets that are written before the first training."""
        seen = []

        def stop(run, data, config_file, opts):
            seen.append([x["file_name"] for x in load_split(find_card(data), "val").records])
            trained = [x["file_name"] for x in load_split(find_card(data), "train").records]
            assert not set(seen[-1]) & set(trained) and len(seen[-1]) + len(trained) == 8

        monkeypatch.setattr(folds, "_train", stop)
        monkeypatch.setattr(folds, "read_detections", lambda run, data: None)
        monkeypatch.setattr(folds, "_renumbered", lambda found, truth: __import__("numpy").zeros((0, 7)))
        with pytest.raises(AttributeError):  # there are no detections
            folds.cross_validated(card, records, tmp_path / name, folds=4, config_file="x.yaml", seed=seed)
        return seen

    assert len(held_out("a", 0)[0]) == 2
    assert held_out("b", 0) == held_out("c", 0) != held_out("d", 1)
