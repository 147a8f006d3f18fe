"""``retina debug``; that a dump is run again stands with the dumps."""

import pytest

from retina_plugin.cli.main import main


@pytest.mark.parametrize("name", ["", "gone", "file"])
def test_a_folder_without_a_dump_is_one_line(name, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["debug", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert "holds no dump" in error and error.count("\n") == 1
