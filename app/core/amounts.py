"""Rough amounts for people: times and sizes of few digits."""

from ml.texts import msg


def about(seconds: float) -> str:
    """A rough time for people, of two digits at most: 40 s, 12 min, 1 h 30 min, 7 h, 3 days."""
    if seconds < 60:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{round(minutes) if minutes < 20 else 5 * round(minutes / 5)} min"
    hours = minutes / 60
    if hours < 5:
        whole, part = divmod(15 * round(minutes / 15), 60)
        return f"{whole} h {part} min" if part else f"{whole} h"
    if hours < 48:
        return f"{round(hours)} h"
    return msg("%(count)s days", count=round(hours / 24))


def size(count: int) -> str:
    """An amount of data for people: 512 bytes, 14 kB, 3.2 MB, 140 GB."""
    if count < 1000:
        return f"{count} bytes"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{value / 1000:.1f} TB"
