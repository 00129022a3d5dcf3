# SPDX-License-Identifier: Apache-2.0
"""Starts and ends servers, for the tests and for compare.py."""

import http.client
import os
import re
import signal
import subprocess


class Server:
    """A server on 127.0.0.1 at a free port, as a context manager. It is ended by SIGTERM, or by SIGKILL if that takes
    long."""

    def __init__(self, program, *options, env=None):
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [program, "--port=0", *options], stdout=subprocess.PIPE, text=True, env=dict(os.environ, **(env or {}))
        )
        self.banner = self.process.stdout.readline().rstrip("\n")
        found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+) with (.+)", self.banner)
        if not found:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            raise RuntimeError("%s did not start: %r" % (program, self.banner))
        self.port = int(found.group(1))
        self.allocator = found.group(2)

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.end()

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def request(self, method, path, body=None, headers=None):
        """(status, body, headers) of one request on a connection of its own."""
        connection = self.connection()
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def has_read(self, connection):
        """Whether the server has taken all that was sent on this socket."""
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [row.split() for row in table]
        mine, client = ":%04X" % self.port, ":%04X" % connection.getsockname()[1]
        # A connection that nobody has accepted has no inode.
        return any(
            row[1].endswith(mine) and row[2].endswith(client) and row[4].endswith(":00000000") and row[9] != "0"
            for row in rows
        )

    def end(self, number=signal.SIGTERM, seconds=30):
        """Sends the signal and returns (exit status, what was printed after the first line)."""
        if self.process.returncode is None:
            self.process.send_signal(number)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        rest = "" if self.process.stdout.closed else self.process.stdout.read()
        self.process.stdout.close()
        return self.process.returncode, rest


def load(program, server, *options, seconds=300):
    """Runs the load generator on the server; returns the finished process."""
    return subprocess.run(
        [program, "--port=%d" % server.port, *options], capture_output=True, text=True, timeout=seconds, check=False
    )
