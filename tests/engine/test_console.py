"""What the console shows, and what the log file holds."""

import contextlib
import logging

from retina_plugin.engine.console import Console, say


@contextlib.contextmanager
def console_in(folder):
    console = Console()
    console.write_to(folder)
    try:
        yield console
    finally:
        console.close()


def test_the_console_shows_our_records_and_the_file_holds_all(tmp_path, capsys):
    with console_in(tmp_path):
        logging.getLogger("retina_plugin.engine.x").info("ours")
        logging.getLogger("retina_plugin.engine.x").debug("detail")
        logging.getLogger("retina_plugin.evaluation.x").info("table")
        logging.getLogger("detectron2.engine.x").warning("of a library")
        logging.getLogger("torch").warning("no GPU")
        logging.getLogger("py.warnings").warning("deprecated")
        try:
            raise KeyError("x")
        except KeyError:
            logging.getLogger("retina_plugin").error("failed", exc_info=True)
    shown = capsys.readouterr()
    assert [line.split(" ", 1)[1] for line in shown.out.splitlines()] == ["ours", "ERROR failed"]
    assert "no GPU" not in shown.err
    text = (tmp_path / "log.txt").read_text()
    words = ("ours", "detail", "table", "of a library", "no GPU", "deprecated", "Traceback")
    assert [word for word in words if word not in text] == []


def test_problems_are_repeated_at_the_end_each_once(tmp_path, capsys):
    with console_in(tmp_path) as console:
        for _ in range(3):
            logging.getLogger("retina_plugin.data").warning("bad box in %s\nand more", "a.png\x1b[31m")
        logging.getLogger("detectron2").warning("not ours")
    assert console.problems.again() == "to be looked at (1):\n  bad box in a.png\\x1b[31m (3 times)"
    assert "\x1b" not in capsys.readouterr().out


def test_other_processes_write_to_their_own_file_only(tmp_path, capsys):
    console = Console(rank=1)
    console.write_to(tmp_path)
    logging.getLogger("retina_plugin").info("here")
    console.close()
    assert capsys.readouterr().out == "" and "here" in (tmp_path / "log.txt.rank1").read_text()


def state_of_logging():
    root, ours, torch = (logging.getLogger(name) for name in (None, "retina_plugin", "torch"))
    return root.handlers[:], ours.level, torch.handlers[:], torch.propagate


def test_closing_restores_logging():
    before = state_of_logging()
    Console().close()
    assert state_of_logging() == before


def test_text_without_a_log_is_written_as_it_is(capsys):
    say("two\nlines", flush=True)
    assert capsys.readouterr().out == "two\nlines\n"
