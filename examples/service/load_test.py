#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""load_test.py SERVER SERVER_LIBC LOAD: the load generator measures, and notices wrong answers."""

import http.server
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import unittest

from running import Server, load

PROGRAMS = []


class Forgetful(http.server.BaseHTTPRequestHandler):
    """Reports success, and returns another value than was put."""

    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):  # pylint: disable=invalid-name
        self.answer(200, b"\n\nprocess_resident_memory_bytes 1\n" if self.path == "/metrics" else b"something else")

    def do_PUT(self):  # pylint: disable=invalid-name
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201)

    def do_DELETE(self):  # pylint: disable=invalid-name
        self.answer(500)

    def log_message(self, *_arguments):  # pylint: disable=arguments-differ
        pass


class Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


class LoadTest(unittest.TestCase):
    def test_a_run_without_errors(self):
        for program in PROGRAMS[:2]:
            with self.subTest(program=program), Server(program) as server:
                done = load(
                    PROGRAMS[2], server, "--ms=1500", "--warmup-ms=300", "--settle-s=1", "--keys=2000", "--format=json",
                    "--fill=1", "--clear=1",
                )
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                report = json.loads(done.stdout)
                self.assertEqual(report["errors"], 0)
                # A busy machine leaves the server little time, and the last answers may come late.
                self.assertGreater(report["requests"], 30)
                self.assertGreaterEqual(report["seconds"], 1.5)
                self.assertLess(report["seconds"], 30)
                self.assertAlmostEqual(
                    report["requests_per_second"], report["requests"] / report["seconds"],
                    delta=report["requests_per_second"] / 100,
                )
                # Its processor time cannot exceed that of all processors.
                self.assertGreater(report["cpu_us_per_request"], 0.1)
                self.assertLess(
                    report["cpu_us_per_request"] * report["requests"], report["seconds"] * 1.1e6 * os.cpu_count() + 1e5
                )
                times = [report[name] for name in ("p50_us", "p99_us", "p999_us", "max_us")]
                self.assertEqual(times, sorted(times))
                self.assertGreater(times[0], 1)
                self.assertGreater(report["rss_end_bytes"], 1 << 20)
                self.assertGreater(report["rss_settled_bytes"], 1 << 20)
                self.assertGreaterEqual(report["rss_peak_bytes"], report["rss_end_bytes"])
                # The server has counted the same requests, and those of the warm-up.
                text = server.request("GET", "/metrics")[1].decode()
                served = sum(int(count) for count in re.findall(r"^kv_http_requests_total\{.*\} (\d+)$", text, re.M))
                self.assertGreater(served, report["requests"])
                self.assertIn("\nkv_store_items 0\n", text)

    def test_so_many_requests(self):
        with Server(PROGRAMS[0]) as server:
            done = load(
                PROGRAMS[2], server, "--requests=1000", "--warmup-ms=0", "--settle-s=0", "--sizes=10-20:1,1000-2000:2"
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertRegex(
                done.stdout,
                r"^requests +1000 in [\d.]+ s, 0 errors\n"
                r"throughput +\d+ requests/s, [\d.]+ us of the server's processor time each\n",
            )
            self.assertEqual(len(done.stdout.splitlines()), 4)

    def test_notices_wrong_answers(self):
        for options, what in [
            (["--get-percent=100", "--delete-percent=0"], "GET: the value is not the one that was put\n"),
            (["--get-percent=0", "--delete-percent=100"], "DELETE: status 500\n"),
        ]:
            with Threads(("127.0.0.1", 0), Forgetful) as server:
                server.port = server.server_address[1]
                thread = threading.Thread(target=server.serve_forever)
                thread.start()
                done = load(PROGRAMS[2], server, "--requests=20", "--warmup-ms=0", "--settle-s=0", *options)
                server.shutdown()
                thread.join()
            self.assertEqual((done.returncode, done.stderr), (1, what))
            # All requests, and those that failed before the measurement began.
            found = re.match(r"requests +0 in [\d.]+ s, (\d+) errors\n", done.stdout)
            self.assertTrue(found and int(found.group(1)) >= 20, done.stdout)

    def test_no_server(self):
        with Server(PROGRAMS[0]) as server:
            server.end()
            done = load(PROGRAMS[2], server)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, "no server answers GET http://127.0.0.1:%d/metrics\n" % server.port)

    def test_bad_options(self):
        for options in [
            ["--sizes="],
            ["--sizes=1-2"],
            ["--sizes=2-1:1"],
            ["--sizes=1-2:0"],
            ["--sizes=1-2:1,"],
            ["--sizes=1-2:1x"],
            ["--sizes=-1-2:1"],
            ["--sizes=1-9999999999:1"],
            ["--get-percent=101"],
            ["--get-percent=60", "--delete-percent=60"],
            ["--connections=0"],
            ["--format=xml"],
            ["--port=0"],
        ]:
            done = subprocess.run(
                [PROGRAMS[2], *options], capture_output=True, text=True, timeout=30, check=False
            )
            self.assertEqual((done.returncode, done.stdout), (2, ""), options)
            self.assertIn("usage: ", done.stderr)


if __name__ == "__main__":
    PROGRAMS += sys.argv[1:4]
    unittest.main(argv=sys.argv[:1])
