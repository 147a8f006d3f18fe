"""``retina describe``: the tables of a config, by the command."""

from support import ROOT

from retina_plugin.cli.main import main


def test_a_config_and_keys(capsys):
    assert (
        main(
            [
                "describe",
                str(ROOT / "configs/digits/quickstart.yaml"),
                "--size",
                "64",
                "96",
                "--set",
                "MODEL.FREEZE",
                "['backbone.bottom_up.*']",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert said.startswith("RetinaPluginNet, one image of 64 x 96 px") and "| p5 | 32 | 2 x 3 | 9 |" in said
    row = next(line for line in said.splitlines() if line.startswith("| backbone |"))
    assert row.split("|")[3].strip() == "0.00", "nothing of it is trained"


def test_a_mistake_is_one_line(capsys):
    assert main(["describe", str(ROOT / "configs/digits/quickstart.yaml"), "--set", "MODEL.FREEZE", "['nothing']"]) == 2
    assert "error: MODEL.FREEZE 'nothing' matches no parameter" in capsys.readouterr().err
