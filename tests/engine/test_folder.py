"""Nothing is overwritten, and a folder has one run at a time."""

import os
import subprocess
import sys

import pytest

from retina_plugin.engine import folder as folders
from retina_plugin.engine.folder import FolderInUse, claimed, evaluation_folder, has_run, keep_latest, latest_run


def make_run(folder):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{}\n")
    (folder / "model_final.pth").write_text("")
    (folder / "notes.txt").write_text("mine")
    return folder


def test_a_named_folder_with_a_run_is_refused_and_the_ways_out_are_named(tmp_path):
    run = make_run(tmp_path / "pets")
    text = "--resume continues it, --overwrite removes it, a different OUTPUT_DIR"
    with pytest.raises(ValueError, match=text), claimed(run, named=True):
        pass
    assert (run / "model_final.pth").exists()


def test_an_unnamed_folder_gets_the_next_number_and_resuming_takes_the_last(tmp_path):
    for wanted in ("pets", "pets_2", "pets_3"):
        with claimed(tmp_path / "pets", named=False) as found:
            assert found == tmp_path / wanted
        (found / "metrics.json").write_text("{}\n")
    with claimed(tmp_path / "pets", named=False, resume=True) as found:
        assert found == tmp_path / "pets_3"
    with claimed(tmp_path / "pets", named=True, resume=True) as found:
        assert found == tmp_path / "pets"
    assert latest_run(tmp_path / "cats") == tmp_path / "cats"


def test_a_run_that_ended_before_it_trained_does_not_count(tmp_path):
    (tmp_path / "a").mkdir()
    for name, text in (("log.txt", "error"), ("metrics.json", ""), ("config.yaml", "x")):
        (tmp_path / "a" / name).write_text(text)
    assert not has_run(tmp_path / "a")
    with claimed(tmp_path / "a", named=True) as found:
        assert found == tmp_path / "a"


def test_overwriting_removes_the_run_and_nothing_else(tmp_path):
    run = make_run(tmp_path / "pets")
    with claimed(run, named=True, overwrite=True):
        assert {path.name for path in run.iterdir()} == {"notes.txt", ".lock"}


def test_unfinished_files_of_a_killed_run_are_removed(tmp_path):
    run = make_run(tmp_path / "pets")
    (run / "model_final.unfinished.pth").write_text("half")
    with claimed(run, named=True, resume=True):
        assert not (run / "model_final.unfinished.pth").exists() and (run / "model_final.pth").exists()


HOLDER = """
import sys, time
from pathlib import Path
from retina_plugin.engine.folder import locked
lock = locked(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_two_runs_at_once_are_refused_but_a_dead_one_does_not_block(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(FolderInUse, match=f"process {holder.pid} on"), claimed(tmp_path, named=True):
        pass
    holder.kill()
    holder.wait()
    with claimed(tmp_path, named=True) as found:
        assert (found / ".lock").read_text().split()[1] == str(os.getpid())
    (tmp_path / ".lock").write_text("elsewhere 4711\n")  # a file, but no lock: the process is gone
    with claimed(tmp_path, named=True):
        pass


def test_an_unnamed_folder_is_left_to_the_run_that_uses_it(tmp_path):
    with claimed(tmp_path / "pets", named=False) as first, claimed(tmp_path / "pets", named=False) as second:
        assert (first.name, second.name) == ("pets", "pets_2")


def test_old_checkpoints_are_removed_and_the_best_is_kept(tmp_path):
    for i in (9, 19, 29, 100):
        (tmp_path / f"model_{i:07d}.pth").write_text("")
        (tmp_path / f"model_{i:07d}.pth.sha256").write_text("")
    (tmp_path / "model_best.pth").write_text("")
    keep_latest(tmp_path, 2)
    kept = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert kept == ["model_0000029.pth", "model_0000100.pth", "model_best.pth"]
    assert len(list(tmp_path.glob("*.sha256"))) == 2


def test_an_evaluation_does_not_overwrite_an_earlier_one(tmp_path):
    found = [evaluation_folder(tmp_path, "x/model best.pth").relative_to(tmp_path).as_posix() for _ in range(3)]
    assert found == ["eval/model_best", "eval/model_best_2", "eval/model_best_3"]


@pytest.mark.slow
def test_the_package_is_imported_without_posix_modules():
    # Detectron2's own dependencies need them on this system, so they are imported before the modules are blocked.
    blocked = """
import sys
import detectron2.data, detectron2.engine, detectron2.evaluation
import matplotlib.pyplot, timm, torch.distributed, torchvision
sys.modules["fcntl"] = sys.modules["resource"] = None
import retina_plugin.ablation, retina_plugin.engine, retina_plugin.inference
from retina_plugin.hardware import peak_memory_mib
print(peak_memory_mib())
"""
    result = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert result.returncode == 0 and float(result.stdout) == 0.0, result.stderr


def test_a_folder_that_cannot_be_created_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), claimed(tmp_path / "file", named=True):
        pass
    assert folders.has_run(tmp_path / "gone") is False
