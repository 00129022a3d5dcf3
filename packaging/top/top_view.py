# SPDX-License-Identifier: Apache-2.0
"""What hakmem-top shows: lines of text."""

import collections
import time

SECOND = 10**9


def size(value, sign=False):
    """A number of bytes in at most nine characters, with a sign ten."""
    value, unit = float(value), 0
    while abs(value) >= 1023.95 and unit < 6:
        value, unit = value / 1024, unit + 1
    text = "%d" % value if unit == 0 else "%.1f" % value
    return ("+" if sign and value >= 0 else "") + text + (" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB")[unit]


def count(value):
    """A number in at most six characters."""
    value, unit = float(value), 0
    while value >= 9999.5 and unit < 6:
        value, unit = value / 1000, unit + 1
    return ("%d" % value if unit == 0 and value == int(value) else "%.4g" % value) + ("", "k", "M", "G", "T", "P", "E")[unit]


def bar(share, width, marks):
    """A bar of that share of the width, in eighths of a character if `marks` has them."""
    steps = len(marks) - 1
    parts = int(min(1.0, share) * width * steps + 0.5)
    return marks[-1] * (parts // steps) + (marks[parts % steps] if parts % steps else "")


def sparkline(values, width, marks):
    shown = list(values)[-width:]
    top = max(shown, default=0)
    return "".join(marks[int(value / top * (len(marks) - 1) + 0.5)] if top else marks[0] for value in shown)


BARS = {True: " ▏▎▍▌▋▊▉█", False: " #"}
LEVELS = {True: "▁▂▃▄▅▆▇█", False: "_.-=+*#@"}


class View:
    """Gathers looks at a process, and makes lines of them."""

    def __init__(self, process, plain):
        self.process = process
        self.plain = plain
        self.live, self.resident = collections.deque(maxlen=400), collections.deque(maxlen=400)
        self.last = self.before = None  # (when, figures) of the last two texts

    def look(self, page):
        """Whether there are figures."""
        found = page.read()
        if found is not None and (self.last is None or found[0] != self.last[0]):
            self.before, self.last = self.last, found
        if self.last is not None:
            self.live.append(self.last[1]["process"]["live_bytes"])
            self.resident.append(self.process.resident() or (self.resident[-1] if self.resident else 0))
        return self.last is not None

    def age(self):
        return max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.last[0]) / SECOND

    def rate(self, name):
        """By second, between the last two texts."""
        if self.before is None or self.last[0] <= self.before[0]:
            return 0.0
        grown = self.last[1]["process"][name] - self.before[1]["process"][name]
        return grown * SECOND / (self.last[0] - self.before[0])

    def rows(self):
        """(what, bytes, blocks, free blocks or None) of each class with live blocks, the most bytes first."""
        figures = self.last[1]
        rows = [(str(row["block_bytes"]), row["block_bytes"] * row["live_blocks"], row["live_blocks"], row["free_blocks"])
                for row in figures["classes"] if row["live_blocks"] or row["free_blocks"]]
        known = [row["up_to_bytes"] for row in figures["large"] if row.get("up_to_bytes")]
        rows += [("<= " + size(row["up_to_bytes"]) if row.get("up_to_bytes") else "> " + size(max(known, default=0)), row["bytes"],
                  row["blocks"], None) for row in figures["large"] if row["blocks"]]
        return sorted(rows, key=lambda row: -row[1])

    def lines(self, width=80, height=24):
        """At most `height` lines of at most `width` characters."""
        figures = self.last[1]
        of, limits = figures["process"], [value for name, value in figures["limits"].items() if value and name != "purge_at_bytes"]
        head = "%s[%d]  %s" % (self.process.name, self.process.pid, figures["build"])
        age = "figures %.1f s old" % self.age()
        lines = [
            head[:max(0, width - len(age) - 2)].ljust(max(0, width - len(age))) + age,
            "live %s   committed %s   RSS %s   limit %s" % (size(of["live_bytes"]), size(of["committed_bytes"]),
                                                            size(self.resident[-1]), size(min(limits)) if limits else "none"),
            "free: in heaps %s   cached %s   slabs %s   records %s" % (size(of["heap_free_bytes"]), size(of["cached_bytes"]),
                                                                       size(of["pool_free_bytes"]), size(of["metadata_bytes"])),
            "by second: live %s   refills %s   flushes %s   remote %s   calls %s" % (
                size(self.rate("live_bytes"), True), count(self.rate("refills")), count(self.rate("flushes")),
                count(self.rate("remote_batches")), count(self.rate("os_calls"))),
        ]
        if len(self.live) > 1:
            for name, values in (("live", self.live), ("RSS", self.resident)):
                top = "most %s" % size(max(values))
                room = max(0, width - 6 - len(top) - 1)
                lines.append(name.ljust(6) + sparkline(values, room, LEVELS[not self.plain]).ljust(room) + " " + top)
        lines.append("%12s %10s %8s %8s  %d blocks, %d threads" % ("block bytes", "live", "blocks", "free", of["live_blocks"], of["threads"]))
        rows = self.rows()
        most = max((row[1] for row in rows), default=0)
        for what, live, blocks, free in rows:
            line = "%12s %10s %8s %8s  " % (what, size(live), count(blocks), "" if free is None else count(free))
            lines.append(line + bar(live / most if most else 0, max(0, width - len(line)), BARS[not self.plain]))
        return [line[:width] for line in lines[:height]]

    def as_json(self):
        return {"pid": self.process.pid, "name": self.process.name, "age_seconds": self.age(), "resident_bytes": self.resident[-1],
                "figures": self.last[1]}
