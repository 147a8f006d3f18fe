"""retina data as people call it."""

import json

import pytest

from retina_plugin.cli.main import main


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    from retina_plugin.data.digits import generate_digits

    generate_digits(tmp_path / "numbers", splits={"train": 6, "val": 2})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_and_fix(folder, capsys):
    assert main(["data", "check", "numbers"]) == 0
    assert "0 errors" in capsys.readouterr().out
    file = folder / "numbers/instances_train.json"
    data = json.loads(file.read_text())
    data["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(data))
    before = file.read_bytes()
    assert main(["data", "check", "numbers"]) == 1
    capsys.readouterr()
    assert main(["data", "check", "numbers", "--fix"]) == 0, "the copy is clean"
    said = capsys.readouterr().out
    assert (
        "ERROR: 1 annotations that cannot be used" in said
        and "has zero size (left out)" in said
        and "1 changes" in said
        and "retina train --data numbers_clean" in said
    )
    assert file.read_bytes() == before and "zero size" in (folder / "numbers_clean/changes.txt").read_text()
    assert main(["data", "check", "numbers_clean"]) == 0


def test_convert_stats_anchors_and_preview(folder, capsys):
    assert main(["data", "convert", "numbers", "--output", "json"]) == 0
    assert {"instances_train.json", "instances_val.json", "numbers_coco.yaml"} == {
        p.name for p in (folder / "json").iterdir()
    }
    assert (
        main(["data", "stats", "numbers"]) == 0
        and "<h1>Dataset numbers</h1>" in (folder / "numbers_stats.html").read_text()
    )
    capsys.readouterr()
    assert main(["data", "anchors", "numbers", "--set", "MODEL.ANCHOR_GENERATOR.SCALE", "40.0"]) == 0
    said = capsys.readouterr().out
    assert (
        "| all |" in said
        and "To cover" in said
        and "ANCHOR_GENERATOR:" in said
        and (folder / "numbers_anchors.jpg").stat().st_size > 5000
    )
    assert (
        main(
            [
                "data",
                "preview",
                "numbers",
                "--count",
                "3",
                "--set",
                "INPUT.COLOR_JITTER",
                "0.5",
                "DATALOADER.NUM_WORKERS",
                "0",
            ]
        )
        == 0
    )
    assert (folder / "numbers_preview.jpg").stat().st_size > 5000


def test_no_dataset_ends_with_one_sentence(folder, capsys):
    assert main(["data", "check", "nowhere"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert main(["data", "stats", "empty"]) == 2
    assert "it contains nothing" in capsys.readouterr().err
