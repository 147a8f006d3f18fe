"""retina ablate as people call it."""

import json

import pytest
from support import ROOT

from retina_plugin.cli.main import main

SWEEP = str(ROOT / "configs/ablations/table_1b.yaml")


def test_the_runs_are_listed(capsys):
    assert main(["ablate", SWEEP, "--list", "--set", "SOLVER.BASE_LR=0.5"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gamma=")]
    assert len(lines) == 14 and lines[0].startswith(
        "gamma=0,seed=1 SOLVER.BASE_LR 0.5 MODEL.RETINANET.FOCAL_LOSS_GAMMA 0.0"
    )


@pytest.mark.parametrize(
    "words, said",
    [
        (["nowhere.yaml"], "does not exist"),
        ([SWEEP, "--size", "huge"], "no size 'huge'"),
    ],
)
def test_mistakes_end_with_one_sentence(words, said, capsys):
    assert main(["ablate", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_table_is_printed_and_written(tmp_path, monkeypatch, capsys):
    def pretend(sweep, output, **kwargs):
        folders = [output / run.name(tuple(sweep.axes)) for run in sweep.runs]
        for i, folder in enumerate(folders):
            folder.mkdir(parents=True)
            cost = {"images_per_second": 1.0, "peak_memory_mib": 1.0, "parameters": 1, "machine": "m", "precision": "p"}
            (folder / "summary.json").write_text(
                json.dumps({"results": {"bbox": {"AP": i, "AP50": i, "AP75": i}}, **cost})
            )
        return folders

    monkeypatch.setattr("retina_plugin.ablation.run_sweep", pretend)
    assert main(["ablate", SWEEP, "--output", str(tmp_path)]) == 0
    assert {"table.md", "table.csv", "table.json", "table.png"} <= {file.name for file in tmp_path.iterdir()}
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out and "retina ablate" in text and "| 2 | 8.5 ± 4.9 |" in text
