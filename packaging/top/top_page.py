# SPDX-License-Identifier: Apache-2.0
"""A process and its stats page, of which allocator/observe/stats_page.h has the layout."""

import json
import os
import stat
import struct
import time

HEAD = struct.Struct("<8sIIQQQ")
SLOT = struct.Struct("<QQ")
MAGIC, VERSION, HEAD_BYTES, SLOT_BYTES, TEXT_BYTES = b"hakmemSP", 1, 4096, 69632, 65536
SECOND = 10**9


class Refused(Exception):
    """What is wrong, for the user, on one line."""


def read_text(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class Process:
    """What /proc tells about a process."""

    def __init__(self, pid):
        self.pid = pid
        try:
            status = dict(line.split(":\t", 1) for line in read_text("/proc/%d/status" % pid).splitlines() if ":\t" in line)
            self.uid = int(status["Uid"].split()[1])
            self.own_pid = int(status.get("NSpid", str(pid)).split()[-1])  # as the process sees itself
            self.name = "".join(c if " " <= c <= "~" else "?" for c in status["Name"])
            ticks = int(read_text("/proc/%d/stat" % pid).rpartition(")")[2].split()[19])
        except (OSError, KeyError, ValueError, IndexError):
            raise Refused("there is no process %d" % pid) from None
        self.start_ns = ticks * SECOND // os.sysconf("SC_CLK_TCK")

    def resident(self):
        """Bytes; None when the process is gone."""
        try:
            return int(read_text("/proc/%d/statm" % self.pid).split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return None

    def is_alive(self):
        try:
            return read_text("/proc/%d/stat" % self.pid).rpartition(")")[2].split()[0] not in ("Z", "X")
        except (OSError, IndexError):
            return False

    def uses_library(self):
        try:
            return "libhakmem" in read_text("/proc/%d/maps" % self.pid)
        except OSError:
            return False


def open_page(process):
    """A descriptor of the process's page, which it made itself and nobody else can write. One that has dropped root's
    rights since then may have made it as root."""
    name = "dev/shm/hakmem-stats-%d" % process.own_pid
    for root in ("/proc/%d/root/" % process.pid, "/"):
        try:
            file = os.open(root + name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except PermissionError:
            if root != "/":
                continue  # its root is not ours to see; it may be the same folder
            raise Refused("process %d belongs to another user" % process.pid) from None
        except OSError as error:
            raise Refused("the page of process %d cannot be opened: %s" % (process.pid, error.strerror)) from None
        about = os.fstat(file)
        if stat.S_ISREG(about.st_mode) and about.st_uid in (process.uid, 0) and about.st_mode & 0o077 == 0:
            return file
        os.close(file)
        raise Refused("/%s is no page that process %d made" % (name, process.pid))
    if process.uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise Refused("process %d belongs to another user" % process.pid)
    if process.uses_library():
        raise Refused("process %d has no figures: it was not started with HAKMEM_STATS_PAGE=1" % process.pid)
    raise Refused("process %d has no figures: it is not on hakmem, or was not started with HAKMEM_STATS_PAGE=1" % process.pid)


def is_number(value):
    return type(value) is int and 0 <= value < 1 << 64


def is_good(figures):
    """Whether a text has the form that hak_stats_json promises."""
    if not isinstance(figures, dict) or figures.get("version") != 1 or not isinstance(figures.get("build"), str):
        return False
    parts = figures.get("process"), figures.get("limits"), figures.get("classes"), figures.get("large")
    if [type(part) for part in parts] != [dict, dict, list, list]:
        return False
    wanted = ("live_bytes", "committed_bytes", "cached_bytes", "heap_free_bytes", "pool_free_bytes", "purged_bytes", "metadata_bytes",
              "refills", "flushes", "remote_batches", "os_calls", "decommitted_bytes", "threads", "live_blocks")
    return (all(is_number(parts[0].get(name)) for name in wanted)
            and all(value is None or is_number(value) for value in parts[1].values())
            and all(isinstance(row, dict) and all(map(is_number, (row.get("block_bytes"), row.get("live_blocks"), row.get("free_blocks"))))
                    for row in parts[2])
            and all(isinstance(row, dict) and is_number(row.get("blocks")) and is_number(row.get("bytes"))
                    and (row.get("up_to_bytes") is None or is_number(row.get("up_to_bytes"))) for row in parts[3]))


class Page:
    """The page of a process. It stays readable when the process ends, and is written to by it at any moment."""

    def __init__(self, process):
        self.process = process
        self.file = open_page(process)
        try:
            self.check()
        except Refused:
            os.close(self.file)
            raise

    def is_gone(self):
        """Whether the process has removed the page: at its end, or because it has become another program by exec."""
        return os.fstat(self.file).st_nlink == 0

    def of(self):
        return "the page of process %d" % self.process.pid

    def head(self):
        data = os.pread(self.file, HEAD.size, 0)
        if len(data) < HEAD.size:
            raise Refused("%s is cut short" % self.of())
        return HEAD.unpack(data)

    def check(self):
        magic, version, slot_bytes, process, made_ns, _ = self.head()
        if magic != MAGIC:
            raise Refused("%s is none of hakmem's" % self.of())
        if version != VERSION:
            raise Refused("%s is of version %d, and this hakmem-top knows %d" % (self.of(), version, VERSION))
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if slot_bytes != SLOT_BYTES or made_ns > now:
            raise Refused("%s is damaged" % self.of())
        # A process that is killed leaves its page, and its number comes again.
        if process != self.process.own_pid or made_ns + SECOND < self.process.start_ns:
            raise Refused("%s is of an earlier process" % self.of())

    def read(self):
        """(when it was written, the figures); None: there are none yet."""
        for _ in range(100):
            sequence = self.head()[5]
            if sequence == 0:
                return None
            at = HEAD_BYTES + (sequence & 1) * SLOT_BYTES
            slot = os.pread(self.file, SLOT.size, at)
            if len(slot) < SLOT.size:
                raise Refused("%s is cut short" % self.of())
            written_ns, length = SLOT.unpack(slot)
            text = os.pread(self.file, min(length, TEXT_BYTES), at + SLOT.size)
            if self.head()[5] != sequence:
                continue
            if not 0 < length < TEXT_BYTES or written_ns > time.clock_gettime_ns(time.CLOCK_BOOTTIME):
                raise Refused("%s is damaged" % self.of())
            if len(text) < length:
                raise Refused("%s is cut short" % self.of())
            try:
                figures = json.loads(text.decode("ascii"))
            except (ValueError, RecursionError):
                figures = None
            if not is_good(figures):
                raise Refused("%s is damaged" % self.of())
            return written_ns, figures
        raise Refused("%s is never at rest" % self.of())
