"""Progress is reported by time."""

import itertools
from types import SimpleNamespace

import pytest

from detectron2.utils.events import EventStorage

from retina_plugin.engine import progress
from retina_plugin.engine.progress import Progress, duration


def lines_of(hook, steps, max_iter, monkeypatch, caplog):
    """What is logged in the first steps of half a second each."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    with EventStorage() as storage, caplog.at_level("INFO"):
        hook.trainer = SimpleNamespace(iter=0, start_iter=0, max_iter=max_iter, storage=storage)
        hook.before_train()
        for i in range(steps):
            hook.trainer.iter = i
            storage.put_scalars(total_loss=1.0, loss_cls=0.75, loss_box_reg=0.25, lr=0.01)
            hook.after_step()
            clock.now += 0.5
    return caplog.messages


def test_a_line_after_the_first_step_and_then_every_ten_seconds(monkeypatch, caplog):
    lines = lines_of(Progress(images=8), 100, 300, monkeypatch, caplog)
    # 100 steps of half a second, the last ends after 49.5 s: lines at 0, 10, 20, 30 and 40 s
    assert lines[0] == "training: 300 iterations of 8 images" and len(lines) == 1 + 5
    assert lines[1] == "iteration 1 of 300 (0 %): loss 1 (cls 0.75, box_reg 0.25), lr 0.01"
    # 20 steps in 10 s: 8 images in half a second; 279 are left, 139.5 s
    text = "iteration 21 of 300 (7 %): loss 1 (cls 0.75, box_reg 0.25), lr 0.01, 16 images/s, eta 2 min 19 s"
    assert lines[2] == text


@pytest.mark.parametrize("max_iter, seconds", [(1440, 40), (100_000, 60)])
def test_a_long_training_has_18_lines_but_one_every_minute(max_iter, seconds, monkeypatch, caplog):
    """1,440 steps take 720 s, of which 40 s are an 18th."""
    lines = lines_of(Progress(images=8), 600, max_iter, monkeypatch, caplog)
    done = [int(line.split()[1]) for line in lines[1:]]
    assert [(b - a) / 2 for a, b in itertools.pairwise(done)] == [seconds] * (len(done) - 1) and len(done) > 4


@pytest.mark.parametrize(
    "seconds, text", [(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3600, "1 h 0 min"), (90000, "1 d 1 h")]
)
def test_durations_have_at_most_two_units(seconds, text):
    assert duration(seconds) == text
