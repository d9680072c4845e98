"""What a signal does at which moment of a show."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from engine.signals import Signals

HANGUP = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="terminals here do not say that they are closed")
NAMES = ["SIGINT", "SIGTERM", pytest.param("SIGHUP", marks=HANGUP)]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Nothing is left changed."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


@pytest.mark.parametrize("name", NAMES)
def test_a_show_is_not_interrupted_but_ended(name: str) -> None:
    stop = threading.Event()
    with Signals(stop):
        for _ in range(3):
            signal.raise_signal(getattr(signal, name))
        assert stop.is_set()


@pytest.mark.parametrize("name", NAMES)
def test_preparing_is_interrupted_and_cleaning_up_after_it_is_not(name: str) -> None:
    cleaned: list[str] = []
    with pytest.raises(KeyboardInterrupt), Signals(threading.Event()) as signals:  # noqa: PT012
        try:
            with signals.interrupting():
                try:
                    signal.raise_signal(getattr(signal, name))
                    cleaned.append("never")
                finally:
                    signal.raise_signal(getattr(signal, name))
                    cleaned.append("within")
        finally:
            signal.raise_signal(getattr(signal, name))
            cleaned.append("after")
    assert cleaned == ["within", "after"]


def test_what_must_be_whole_is_interrupted_at_its_end() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), Signals(threading.Event()) as signals, signals.interrupting():  # noqa: PT012
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
            done.append("whole")
        done.append("never")
    assert done == ["whole"]


def test_an_interruption_that_became_another_error_is_one_still() -> None:
    with pytest.raises(KeyboardInterrupt), Signals(threading.Event()) as signals, signals.interrupting():  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None


@HANGUP
def test_who_was_told_to_outlive_the_terminal_does() -> None:
    stop = threading.Event()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals(stop):
            os.kill(os.getpid(), signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)
