"""Signals as exceptions."""

import os
import signal
import threading

import pytest

from ratinglab.process.interrupts import StoppedError, StopRequest, raise_on_signals


def stop_with_a_failing_clean_up():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        raise KeyError("a library's clean-up")


def test_signal_is_raised_once_even_if_a_library_replaces_it():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match="stopped by SIGTERM") as error, raise_on_signals():
        stop_with_a_failing_clean_up()
    assert error.value.status == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_errors_pass_unchanged():
    with pytest.raises(KeyError), raise_on_signals():
        raise KeyError


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_handle_no_signals(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def fit():
        request = StopRequest(tmp_path)
        request.watch()
        seen.append(signal.getsignal(signal.SIGTERM))
        request.close()

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert seen == [before]
