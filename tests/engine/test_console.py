"""What people see, and what stands in the log file."""

import contextlib
import logging

from retina_plugin.engine.console import Console


@contextlib.contextmanager
def console_in(folder):
    console = Console()
    console.write_to(folder)
    try:
        yield console
    finally:
        console.close()


def test_the_console_has_what_is_ours_and_the_file_everything(tmp_path, capsys):
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
    assert [line.split(" ", 1)[1] for line in shown.out.splitlines()] == [
        "ours",
        "ERROR failed",
    ] and "no GPU" not in shown.err
    text = (tmp_path / "log.txt").read_text()
    assert all(
        word in text for word in ("ours", "detail", "table", "of a library", "no GPU", "deprecated", "Traceback")
    )


def test_problems_are_said_again_each_once(tmp_path, capsys):
    with console_in(tmp_path) as console:
        for _ in range(3):
            logging.getLogger("retina_plugin.data").warning("bad box in %s\nand more", "a.png\x1b[31m")
        logging.getLogger("detectron2").warning("not ours")
    assert console.problems.again() == "to be looked at (1):\n  bad box in a.png\\x1b[31m (3 times)"
    assert "\x1b" not in capsys.readouterr().out


def test_other_processes_are_silent_and_have_a_file(tmp_path, capsys):
    console = Console(rank=1)
    console.write_to(tmp_path)
    logging.getLogger("retina_plugin").info("here")
    console.close()
    assert capsys.readouterr().out == "" and "here" in (tmp_path / "log.txt.rank1").read_text()


def test_logging_is_left_as_it_was(tmp_path):
    before = (
        logging.getLogger().handlers[:],
        logging.getLogger("retina_plugin").level,
        logging.getLogger("torch").handlers[:],
    )
    Console().close()
    assert (
        logging.getLogger().handlers,
        logging.getLogger("retina_plugin").level,
        logging.getLogger("torch").handlers,
    ) == before
