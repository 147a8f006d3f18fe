"""The first signal asks to stop, the second ends at once."""

import os
import signal
import threading

import pytest

from retina_plugin.engine.ending import Stopped
from retina_plugin.engine.signals import StopOnSignal


def test_the_first_signal_asks_and_the_second_ends():
    asked, before = [], signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped, StopOnSignal(asked.append):
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
    assert stopped.value.signal == signal.SIGINT and stopped.value.command is None and asked == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before


def test_outside_the_main_thread_nothing_is_installed():
    found = []

    def work():
        with StopOnSignal(found.append) as stop:
            found.append(stop._before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [{}]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 7)])
def test_a_loader_process_ignores_ctrl_c_and_ends_with_sigterm(number, code):
    with StopOnSignal(lambda n: None):
        child = os.fork()
        if not child:
            os.kill(os.getpid(), number)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
