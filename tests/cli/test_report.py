"""retina report as people call it."""

from retina_plugin.cli.main import main


def test_a_folder_without_a_run_ends_with_one_sentence(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_run_that_has_only_begun(tmp_path, capsys):
    from support import tiny_cfg

    from retina_plugin.config import dump_config

    (tmp_path / "config.yaml").write_text(dump_config(tiny_cfg()))
    assert main(["report", str(tmp_path)]) == 0
    assert "iteration 0 of" in (tmp_path / "report.html").read_text() and "report.html" in capsys.readouterr().out
