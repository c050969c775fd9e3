"""Sets the wall clock of a process wrong, by `FAULTS_CLOCK` seconds, before it imports anything.

It is for one server's PYTHONPATH. All Python code that reads the time of day gets the wrong
one; the monotonic clocks stay right, as they do on a machine whose clock is set. The class of
datetimes stays the one that the drivers' C code makes, so its methods are replaced in place.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from datetime import datetime, timedelta, tzinfo

SECONDS = float(os.environ["FAULTS_CLOCK"])
_OFFSET = timedelta(seconds=SECONDS)

_time, _time_ns, _clock_gettime = time.time, time.time_ns, time.clock_gettime
_gmtime, _localtime, _strftime = time.gmtime, time.localtime, time.strftime
_now, _utcnow = datetime.now, datetime.utcnow


def wrong_time() -> float:
    return _time() + SECONDS


def wrong_time_ns() -> int:
    return _time_ns() + int(SECONDS * 1_000_000_000)


def wrong_clock(clock: int) -> float:
    return _clock_gettime(clock) + (SECONDS if clock == time.CLOCK_REALTIME else 0)


def wrong_gmtime(seconds: float | None = None) -> time.struct_time:
    return _gmtime(wrong_time() if seconds is None else seconds)


def wrong_localtime(seconds: float | None = None) -> time.struct_time:
    return _localtime(wrong_time() if seconds is None else seconds)


def wrong_strftime(form: str, at: time.struct_time | None = None) -> str:
    return _strftime(form, wrong_localtime() if at is None else at)


def wrong_now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
    return _now(tz) + _OFFSET


def wrong_utcnow(cls: type[datetime]) -> datetime:
    return _utcnow() + _OFFSET


time.time, time.time_ns, time.clock_gettime = wrong_time, wrong_time_ns, wrong_clock
time.gmtime, time.localtime, time.strftime = wrong_gmtime, wrong_localtime, wrong_strftime

# The class can't be changed by assignment; its dictionary can.
[_methods] = gc.get_referents(datetime.__dict__)
_methods["now"] = classmethod(wrong_now)
_methods["utcnow"] = classmethod(wrong_utcnow)
ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))
