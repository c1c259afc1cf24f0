"""Mends for the packages we stand on."""

from __future__ import annotations

import ctypes
import sys

import pytest

from phototwin_tasks.compat import PR_GET_TIMERSLACK, SLACK_NS, late_timers

linux = pytest.mark.skipif(sys.platform != "linux", reason="timers have a slack on Linux only")


def slack_ns() -> int:
    return ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)


@linux
def test_timers_are_late_inside_alone():
    before = slack_ns()
    with late_timers():
        assert slack_ns() == SLACK_NS
    assert slack_ns() == before


@linux
def test_timers_come_back_after_an_error():
    before = slack_ns()
    with pytest.raises(ValueError, match="nothing"), late_timers():
        raise ValueError("nothing")
    assert slack_ns() == before
