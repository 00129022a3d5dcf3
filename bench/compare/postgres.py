# SPDX-License-Identifier: Apache-2.0
"""postgres under pgbench: a server under test, driven by a client on the C library's malloc.

The server listens on a Unix socket in the folder of the run only, and ends by itself after TIMEOUT.
"""

import glob
import os
import shutil
import signal
import subprocess
import time
from typing import Dict, List

from bench.compare.program import TIMEOUT, Program, Skipped, Timing, executable
from bench.lib.allocators import Allocator

USER = "bench"
SETTINGS = ("listen_addresses=", "fsync=off", "autovacuum=off", "max_connections=20", "shared_buffers=16MB",
            "max_wal_size=256MB", "logging_collector=off")


def plain() -> Dict[str, str]:
    return Allocator("glibc", None).environment(dict(os.environ, LC_ALL="C"))


def run_plain(command: List[str], directory: str, what: str) -> None:
    """Runs a tool of postgres on the C library's malloc. RuntimeError: it failed."""
    done = subprocess.run(command, cwd=directory, env=plain(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, errors="replace", timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{what}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def as_another_user() -> List[str]:
    """postgres refuses to run as root; in a name space of its own the same user has another number."""
    if os.geteuid() != 0:
        return []
    prefix = [executable("unshare"), "--user", "--map-user=65534", "--map-group=65534"]
    if subprocess.run([*prefix, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0:
        raise Skipped("it does not run as root, and the kernel gives no name space for another user")
    return prefix


def folder_of_programs() -> str:
    """The folder with initdb and pgbench, which Debian does not link into /usr/bin."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    server = os.path.realpath(shutil.which("postgres") or (found[-1] if found else executable("postgres")))
    folder = os.path.dirname(server)
    for name in ("initdb", "pgbench"):
        if not os.path.exists(os.path.join(folder, name)):
            raise Skipped(f"{name} is not beside {server}")
    return folder


class Server:
    """A running server on the database in `data`. It is measured from its start to its end."""

    def __init__(self, measure: str, prefix: List[str], programs: str, data: str, allocator: Allocator) -> None:
        self.data, self.report = data, os.path.join(data, "report")
        settings = [word for setting in (*SETTINGS, f"unix_socket_directories={data}") for word in ("-c", setting)]
        command = [measure, self.report, allocator.path or "-", "timeout", "--signal=INT", "--kill-after=10",
                   str(int(TIMEOUT)), *prefix, os.path.join(programs, "postgres"), "-D", data, *settings]
        with open(os.path.join(data, "server.log"), "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, env=plain(), cwd=data, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def last_line(self) -> str:
        with open(os.path.join(self.data, "server.log"), encoding="utf-8", errors="replace") as log:
            return (log.read().strip().splitlines() or ["no message"])[-1]

    def process_id(self) -> int:
        """0: it has not written its file yet, or is gone."""
        try:
            with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as file:
                return int(file.readline())
        except (OSError, ValueError):
            return 0

    def wait_until_serving(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"postgres ended at once: {self.last_line()}")
            try:
                with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as file:
                    if file.read().rstrip().endswith("ready"):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError("postgres was not ready within 60 s")

    def stop(self) -> None:
        """Asks for a fast shutdown; after ten seconds it has to go."""
        for wanted in (signal.SIGINT, signal.SIGKILL):
            number = self.process_id()
            if number and self.process.poll() is None:
                os.kill(number, wanted)
            try:
                self.process.wait(10)
                return
            except subprocess.TimeoutExpired:
                continue
        self.process.kill()
        self.process.wait()

    def usage(self) -> List[int]:
        """What measure wrote: nanoseconds, microseconds of processor time (user, system), peak KiB, faults."""
        with open(self.report, encoding="ascii") as file:
            return [int(number) for number in file.read().split()]


def postgres_program(measure: str, directory: str, scale: int) -> Program:
    programs, prefix = folder_of_programs(), as_another_user()
    pristine = os.path.join(directory, "postgres.new")
    if len(pristine) > 80:
        raise Skipped(f"{directory} is too long for the name of a Unix socket")

    def tool(name: str, *arguments: str) -> List[str]:
        return [*prefix, os.path.join(programs, name), *arguments]

    def load(data: str, *arguments: str) -> List[str]:
        return [os.path.join(programs, "pgbench"), "-h", data, "-U", USER, *arguments, "postgres"]

    try:
        run_plain(tool("initdb", "-D", pristine, "-U", USER, "--auth=trust", "--no-locale", "--no-sync"), directory, "initdb")
        server = Server(measure, prefix, programs, pristine, Allocator("glibc", None))
        try:
            server.wait_until_serving()
            run_plain(load(pristine, "-i", "-q"), directory, "pgbench -i")
        finally:
            server.stop()
    except RuntimeError as error:
        raise Skipped(str(error)) from None

    def run(allocator: Allocator) -> Timing:
        data = os.path.join(directory, "postgres.run")
        shutil.copytree(pristine, data)
        try:
            server = Server(measure, prefix, programs, data, allocator)
            try:
                server.wait_until_serving()
                begin = time.monotonic()
                run_plain(load(data, "-n", "-c", "4", "-j", "2", "-t", str(100 * scale)), directory, "pgbench")
                seconds = time.monotonic() - begin
            finally:
                server.stop()
            if server.process.returncode != 0:
                raise RuntimeError(f"postgres ended with status {server.process.returncode}: {server.last_line()}")
            _, user, system, peak, faults = server.usage()
            return Timing(seconds, (user + system) / 1e6, peak, faults)
        finally:
            shutil.rmtree(data)

    return Program("postgres", "a server under pgbench, four clients", [os.path.join(programs, "postgres"), "--version"], run)
