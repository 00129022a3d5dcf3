#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hakmem-top: what it shows of a program, that it leaves the terminal as it was, and what it says of bad input.

usage: hakmem_top_test.py HAKMEM_TOP TOP_CHILD"""

import fcntl
import json
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest
from unittest import mock

TOP, CHILD = map(os.path.abspath, sys.argv[1:3])
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(TOP))
import top_page  # noqa: E402
import top_view  # noqa: E402

RANDOM = random.Random(int(os.environ.get("HAK_TEST_SEED") or os.environ.get("TEST_RANDOM_SEED") or 1))
TIOCGPTPEER = 0x5441  # ioctl_tty(2); Python does not name it
ENVIRONMENT = dict(os.environ, LC_ALL="C.UTF-8", TERM="xterm", HAKMEM_STATS_PAGE="1")
ENVIRONMENT.pop("LD_PRELOAD", None)


def path_of(pid):
    return "/dev/shm/hakmem-stats-%d" % pid


# Tests that run beside this one have processes of their own numbers, which are not seen here.
LONGEST_TEST_SECONDS = 1800


def setUpModule():
    """Processes that were killed leave their pages, and a child of this test may get the number of one of them."""
    for name in os.listdir("/dev/shm"):
        found = re.fullmatch(r"hakmem-stats-([0-9]+)", name)
        if found and not os.path.exists("/proc/" + found.group(1)):
            page = "/dev/shm/" + name
            try:
                if time.time() - os.stat(page).st_ctime > LONGEST_TEST_SECONDS:
                    os.unlink(page)
            except FileNotFoundError:
                continue


def top(*arguments):
    return subprocess.run([TOP, *map(str, arguments)], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)


class Running:
    """A child that has its blocks, until the end of the block."""

    def __init__(self, *arguments, page="1"):
        self.child = subprocess.Popen([CHILD, *arguments], env=dict(ENVIRONMENT, HAKMEM_STATS_PAGE=page), stdout=subprocess.PIPE)
        self.child.stdout.readline()
        self.pid = self.child.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()
        if os.path.lexists(path_of(self.pid)):
            os.unlink(path_of(self.pid))


class Terminal:
    """A command on a terminal of its own of 80 columns."""

    def __init__(self, *command):
        may_begin, begin = os.pipe()
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            os.read(may_begin, 1)
            os.execve(command[0], command, ENVIRONMENT)
        # Held open, so that its settings stay when the command has ended.
        self.other_end = fcntl.ioctl(self.file, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        self.output = b""
        self.settings = termios.tcgetattr(self.other_end)
        os.write(begin, b"x")
        os.close(may_begin)
        os.close(begin)

    def more(self, seconds=60):
        """False: it says nothing more for so long."""
        if not select.select([self.file], [], [], seconds)[0]:
            return False
        self.output += os.read(self.file, 65536)
        return True

    def wait_for(self, pattern):
        while not re.search(pattern, self.output):
            if not self.more():
                raise AssertionError("it does not say %r: %r" % (pattern, self.output[-2000:]))
        return re.search(pattern, self.output)

    def press(self, keys):
        os.write(self.file, keys)

    def end(self):
        """The exit status, and whether the terminal is set as before."""
        ended = (0, 0)
        while ended[0] == 0:
            self.more(0.05)
            ended = os.waitpid(self.pid, os.WNOHANG)
        while self.more(0):
            pass
        is_as_before = termios.tcgetattr(self.other_end) == self.settings
        os.close(self.other_end)
        os.close(self.file)
        return os.waitstatus_to_exitcode(ended[1]), is_as_before


def wait_for_blocks(child):
    """The page is written a few times a second: until it has the child's blocks."""
    for _ in range(600):
        done = top("--once", "--json", child.pid)
        if done.returncode != 0 or json.loads(done.stdout)["figures"]["process"]["live_bytes"] >= 20000 * 200:
            return
        time.sleep(0.1)


class Shown(unittest.TestCase):
    def test_once(self):
        with Running("100000") as child:
            wait_for_blocks(child)
            done = top("--once", child.pid)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            for line in done.stdout.splitlines():
                self.assertLessEqual(len(line), 80, line)
            for words in ("top_child[%d]" % child.pid, "live ", "committed ", "RSS ", "█"):
                self.assertIn(words, done.stdout)
            # Most blocks have 200 bytes.
            self.assertRegex(done.stdout, r"\n +2\d\d +\S+ MiB +")

    def test_json(self):
        with Running("100000") as child:
            wait_for_blocks(child)
            done = top("--once", "--json", child.pid)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            said = json.loads(done.stdout)
            self.assertEqual((said["pid"], said["name"]), (child.pid, "top_child"))
            self.assertGreaterEqual(said["figures"]["process"]["live_bytes"], 20000 * 200)
            self.assertGreater(said["resident_bytes"], 20000 * 200)
            self.assertGreaterEqual(said["age_seconds"], 0)

    def test_an_idle_program_has_old_figures(self):
        with Running("100000", "quiet") as child:
            ages = []
            while len(ages) < 2 or ages[-1] < 0.5:
                ages.append(json.loads(top("--once", "--json", child.pid).stdout)["age_seconds"])
            self.assertEqual(ages, sorted(ages))

    def test_rates_and_history(self):
        with Running("100000") as child:
            process = top_page.Process(child.pid)
            page, view = top_page.Page(process), top_view.View(process, plain=True)
            while view.before is None or view.rate("flushes") == 0:
                self.assertTrue(view.look(page))
                time.sleep(0.01)
            lines = view.lines(80, 24)
            self.assertTrue(all(len(line) <= 80 and line.isascii() for line in lines), lines)
            self.assertGreater(view.rate("refills"), 0)
            self.assertRegex("\n".join(lines), r"\nlive +[-_.=+*#@]+ .*most \d")
            for width, height in ((1, 1), (10, 3), (40, 5), (200, 60)):
                lines = view.lines(width, height)
                self.assertLessEqual(len(lines), height)
                self.assertTrue(all(len(line) <= width for line in lines), lines)

    def test_numbers(self):
        self.assertEqual([top_view.size(value) for value in (0, 1023, 1024, 1 << 20, (1 << 20) - 1, 5 << 39)],
                         ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 MiB", "2.5 TiB"])
        self.assertEqual([top_view.size(value, True) for value in (0, -2048, 2048)], ["+0 B", "-2.0 KiB", "+2.0 KiB"])
        self.assertEqual([top_view.count(value) for value in (0, 9999, 10000, 123456, 0.5)], ["0", "9999", "10k", "123.5k", "0.5"])
        marks = top_view.BARS[False]
        self.assertEqual([len(top_view.bar(share, 40, marks)) for share in (0, 0.02, 0.5, 1, 7)], [0, 1, 20, 40, 40])


class OnATerminal(unittest.TestCase):
    def check(self, terminal, action, status):
        terminal.wait_for(rb"top_child\[(\d+)\]")
        pid = int(terminal.wait_for(rb"top_child\[(\d+)\]").group(1))
        terminal.wait_for(rb"live ")
        action(terminal)
        self.assertEqual(terminal.end(), (status, True), terminal.output[-500:])
        # The other screen is left, and the cursor is back.
        self.assertGreater(terminal.output.rfind(b"\x1b[?1049l"), terminal.output.rfind(b"\x1b[?1049h"))
        self.assertGreater(terminal.output.rfind(b"\x1b[?25h"), terminal.output.rfind(b"\x1b[?25l"))
        self.assertNotIn(b"Traceback", terminal.output)
        return pid

    def gone(self, pid):
        self.assertFalse(os.path.exists("/proc/%d" % pid))
        self.assertFalse(os.path.exists(path_of(pid)))

    def test_q_ends_the_view_and_the_program(self):
        self.gone(self.check(Terminal(TOP, "--", CHILD, "100000"), lambda terminal: terminal.press(b"q"), 0))

    def test_interrupt(self):
        self.gone(self.check(Terminal(TOP, "--", CHILD, "100000"), lambda terminal: terminal.press(b"\x03"), 130))

    def test_terminated(self):
        self.gone(self.check(Terminal(TOP, "--", CHILD, "100000"), lambda terminal: os.kill(terminal.pid, signal.SIGTERM), 143))

    def test_the_program_ends(self):
        terminal = Terminal(TOP, "-d", "0.1", "--", CHILD, "30")
        self.gone(self.check(terminal, lambda terminal: None, 3))
        self.assertIn(b"block bytes", terminal.output[terminal.output.rfind(b"\x1b[?1049l"):])

    def test_a_program_that_executes_another_one(self):
        def press_when_other(terminal):
            # The name of what /proc/self/exe executes.
            terminal.wait_for(rb"exe\[\d+\]")
            terminal.press(b"q")

        self.gone(self.check(Terminal(TOP, "-d", "0.1", "--", CHILD, "50", "exec"), press_when_other, 0))

    def test_a_running_process_and_no_flicker(self):
        with Running("100000") as child:
            terminal = Terminal(TOP, "-d", "0.1", str(child.pid))
            while terminal.output.count(b" s old") < 1 or len(terminal.output) < 6000:
                terminal.more()
            self.check(terminal, lambda terminal: terminal.press(b"q"), 0)
            self.assertIsNone(child.child.poll(), "it is not hakmem-top's to end")
            # Only the first picture begins with an empty screen.
            self.assertLessEqual(len(re.findall(rb"\x1b\[H\x1b\[2?J|\x1b\[2J", terminal.output)), 1)

    def test_the_output_goes_to_a_file(self):
        path = os.path.join(os.environ.get("TEST_TMPDIR", "/tmp"), "output-%d" % os.getpid())

        def press_when_written(terminal):
            # The view may have figures of the program before the program has written.
            while os.path.getsize(path) == 0:
                terminal.more(0.05)
            terminal.press(b"q")

        self.check(Terminal(TOP, "-o", path, "--", CHILD, "100000"), press_when_written, 0)
        with open(path, encoding="ascii") as file:
            self.assertEqual(file.read(), "ready\n")
        os.unlink(path)


def made(pid, sequence=1, text=b"{}", length=None, magic=b"hakmemSP", version=1, slot_bytes=69632, process=None, made_ns=None,
         written_ns=None):
    """The bytes of a page."""
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    page = bytearray(4096 + 2 * 69632)
    top_page.HEAD.pack_into(page, 0, magic, version, slot_bytes, pid if process is None else process,
                            now if made_ns is None else made_ns, sequence)
    at = 4096 + (sequence & 1) * 69632
    top_page.SLOT.pack_into(page, at, now if written_ns is None else written_ns, len(text) if length is None else length)
    page[at + 16:at + 16 + len(text)] = text
    return bytes(page)


class Refusals(unittest.TestCase):
    def refused(self, done, pattern):
        self.assertEqual(done.returncode, 2, done)
        self.assertRegex(done.stderr, r"\Ahakmem-top: [^\n]*%s[^\n]*\n\Z" % pattern)
        self.assertEqual(done.stdout, "")

    def test_arguments(self):
        for arguments, pattern in (((), "one PID"), (("1", "2"), "one PID"), (("--",), "one PID"), (("x",), "x is no PID"),
                                   (("0",), "no PID"), (("-5",), "no option -5"), (("99999999999999999999",), "no PID"),
                                   (("-d",), "-d needs a value"), (("-d", "x", "1"), "no time"), (("-d", "nan", "1"), "no time"),
                                   (("--json", "1"), "--once"), (("--once", "--", "true"), "--once"), (("-o", "x", "1"), "-o is for"),
                                   (("--wrong", "1"), "no option --wrong"), (("--", "true"), "needs a terminal")):
            self.refused(top(*arguments), pattern)

    def test_processes(self):
        ended = subprocess.Popen(["true"])
        ended.wait()
        self.refused(top("--once", ended.pid), "no process")
        self.refused(top("--once", os.getpid()), "no figures: it is not on hakmem")
        with Running("100000", page="0") as child:
            self.refused(top("--once", child.pid), "HAKMEM_STATS_PAGE=1")
        with mock.patch("os.geteuid", return_value=12345):
            process = top_page.Process(os.getpid())
            process.uid = 54321
            with self.assertRaisesRegex(top_page.Refused, "another user"):
                top_page.open_page(process)

    def test_programs(self):
        for command, pattern in ((("/no/such",), rb"/no/such cannot be run"), (("/bin/true",), rb"ended with status 0, before"),
                                 (("/bin/sleep", "1000"), rb"no figures")):
            terminal = Terminal(TOP, "--", *command)
            terminal.wait_for(pattern)
            self.assertEqual(terminal.end(), (2, True))

    def test_an_unknown_terminal(self):
        with mock.patch.dict(ENVIRONMENT, TERM="no-such-terminal"):
            terminal = Terminal(TOP, "--", CHILD, "1")
            terminal.wait_for(rb"no-such-terminal is not known")
            self.assertEqual(terminal.end(), (2, True))

    def test_pages_of_others(self):
        with subprocess.Popen(["sleep", "1000"]) as process:
            pid, path = process.pid, path_of(process.pid)
            started = top_page.Process(pid).start_ns
            good = b'{"version":1}'
            nested = b"[" * 60000
            try:
                for data, pattern in (
                        (b"", "cut short"), (made(pid)[:39], "cut short"), (made(pid)[:4100], "cut short"),
                        (made(pid, text=b"x" * 5000)[:5000], "cut short"), (made(pid, magic=b"hakmemSQ"), "none of hakmem's"),
                        (made(pid, version=2), "version 2"), (made(pid, slot_bytes=0), "damaged"), (made(pid, process=1), "earlier"),
                        (made(pid, made_ns=max(0, started - 2 * 10**9)), "earlier"), (made(pid, made_ns=2**64 - 1), "damaged"),
                        (made(pid, written_ns=2**64 - 1), "damaged"), (made(pid, length=0), "damaged"),
                        (made(pid, length=2**64 - 1), "damaged"), (made(pid, length=65536), "damaged"), (made(pid), "damaged"),
                        (made(pid, text=good), "damaged"), (made(pid, text=nested), "damaged"), (made(pid, text=b"\xff"), "damaged"),
                        (made(pid, text=b"9" * 9000), "damaged"), (made(pid, sequence=0), "no figures yet"),
                        (made(pid, sequence=2**64 - 1, text=b"null"), "damaged")):
                    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                        file.write(data)
                    self.refused(top("--once", pid), pattern)
                os.chmod(path, 0o644)
                self.refused(top("--once", pid), "no page that process %d made" % pid)
                for make in (os.mkfifo, os.mkdir, lambda path: os.symlink(TOP, path)):
                    if os.path.isdir(path):
                        os.rmdir(path)
                    else:
                        os.unlink(path)
                    make(path)
                    self.refused(top("--once", pid), "page")
            finally:
                os.unlink(path)
                process.kill()

    def test_damage_at_random(self):
        """A page is shown or refused, whatever is in it."""
        with Running("100000", "quiet") as child, subprocess.Popen(["sleep", "1000"]) as process:
            pid, path = process.pid, path_of(process.pid)
            with open(path_of(child.pid), "rb") as file:
                data = file.read()
            sequence = top_page.HEAD.unpack_from(data)[5]
            at = 4096 + (sequence & 1) * 69632
            text = data[at + 16:at + 16 + top_page.SLOT.unpack_from(data, at)[1]]
            seen = {"shown": 0, "refused": 0}
            try:
                for _ in range(400):
                    page = bytearray(made(pid, text=text))
                    for _ in range(RANDOM.choice((0, 1, 1, 2, 5))):
                        place = RANDOM.choice((RANDOM.randrange(40), 4096 + 69632 + RANDOM.randrange(16 + len(text))))
                        page[place] = RANDOM.choice((RANDOM.randrange(256), ord("0"), ord("{"), ord('"'), ord("-")))
                    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                        file.write(page[:RANDOM.choice((len(page), len(page), len(page), RANDOM.randrange(len(page))))])
                    about = top_page.Process(pid)
                    try:
                        view = top_view.View(about, plain=False)
                        if view.look(top_page.Page(about)):
                            self.assertTrue(all(len(line) <= 80 for line in view.lines(80, 24)))
                            json.dumps(view.as_json())
                        seen["shown"] += 1
                    except top_page.Refused:
                        seen["refused"] += 1
            finally:
                os.unlink(path)
                process.kill()
            self.assertTrue(all(seen.values()), seen)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
