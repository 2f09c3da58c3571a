"""Turns integers of nanoseconds and bytes into what a person reads; nothing else in the project formats."""

from __future__ import annotations

import datetime as dt

from stepscope.core.metrics import BY_KEY, Unit

NONE = "–"


def duration(ns: float | None) -> str:
    """Three significant digits in the unit that fits: "12.3 ms"."""
    if ns is None:
        return NONE
    for limit, divisor, unit in ((1e3, 1, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms"), (60e9, 1e9, "s")):
        if ns < limit:
            return f"{_digits(ns / divisor)} {unit}"
    minutes, seconds = divmod(round(ns / 1e9), 60)
    return f"{minutes} min {seconds:02d} s"


def size(count: float | None) -> str:
    """Decimal units, three significant digits: "154 MB"."""
    if count is None:
        return NONE
    for limit, divisor, unit in ((1e3, 1, "B"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if count < limit:
            return f"{_digits(count / divisor)} {unit}"
    return f"{_digits(count / 1e9)} GB"


def share(value: float | None) -> str:
    """Never rounds up to 100 %: that means equal."""
    if value is None:
        return NONE
    return "100 %" if value == 1 else f"{min(99.9, 100 * value):.1f} %"


def rate(value: float | None) -> str:
    return NONE if value is None else _digits(value)


def metric(key: str, value: float | None) -> str:
    """A value of core.metrics in its unit."""
    match BY_KEY[key].unit:
        case Unit.NS:
            return duration(value)
        case Unit.BYTES:
            return size(value)
        case Unit.SHARE:
            return share(value)
        case Unit.PER_SECOND:
            return rate(value)
        case Unit.COUNT:
            return NONE if value is None else f"{value:,.0f}"


def moment(unix_ns: int) -> dt.datetime:
    """In the server's time zone."""
    return dt.datetime.fromtimestamp(unix_ns / 1e9).astimezone()


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 or value == 0 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
