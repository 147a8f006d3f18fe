"""retina keys as people call it."""

from retina_plugin.cli.main import main


def test_keys_are_shown_by_a_word(capsys):
    assert main(["keys", "MOSAIC"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("INPUT.MOSAIC = 0.0\n") and "allowed: a finite number at least 0 and at most 1" in out


def test_a_word_that_no_key_has_is_answered_with_the_nearest(capsys):
    assert main(["keys", "MOSIAC"]) == 2
    assert "no key has 'MOSIAC'" in capsys.readouterr().err


def test_the_page_is_written(tmp_path, capsys):
    assert main(["keys", "--write", str(tmp_path / "keys.md")]) == 0
    assert (tmp_path / "keys.md").read_text().startswith("# Config keys")
