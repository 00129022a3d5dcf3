#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""protocol_test.py SERVER SERVER_LIBC LOAD: the servers' answers, how they start and how they end."""

import gzip
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

from running import Server

SERVERS = []


def answer(connection, method, path, body=None, headers=None):
    """(status, body). A request is sent again if the server has closed the connection, because this machine has stopped
    the test for longer than the server waits for the next request."""
    for last in False, True:
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        except ConnectionError:
            if last or not isinstance(body, (bytes, type(None))):
                raise
            connection.close()  # The next request opens it again.
    raise AssertionError("not reached")


class ProtocolTest(unittest.TestCase):
    def for_both(self, *options):
        """Both servers, one after the other, each in a subTest."""
        for program in SERVERS:
            with self.subTest(program=os.path.basename(program)), Server(program, *options) as server:
                yield server
                self.assertEqual(server.end(), (0, "ended\n"))

    def test_values_come_back(self):
        rng = random.Random(1)
        for server in self.for_both():
            values = {}
            for i in range(300):
                key = "k%d" % rng.randrange(60)
                value = rng.randbytes(rng.choice([0, 1, 100, 5000, 200000]))
                status, body, _ = server.request("PUT", "/kv/" + key, value)
                self.assertEqual((status, body), (204 if key in values else 201, b""), i)
                values[key] = value
            for key, value in values.items():
                status, body, headers = server.request("GET", "/kv/" + key)
                self.assertEqual((status, headers["Content-Type"]), (200, "application/octet-stream"))
                self.assertEqual(body, value)
                self.assertEqual(server.request("DELETE", "/kv/" + key)[:2], (204, b""))
                self.assertEqual(server.request("GET", "/kv/" + key)[0], 404)
                self.assertEqual(server.request("DELETE", "/kv/" + key)[0], 404)

    def test_keys_are_any_bytes(self):
        for server in self.for_both():
            for key in ["a/b", "%2F", "%0A", "%C3%A4", "%25", "a%20b"]:
                self.assertEqual(server.request("PUT", "/kv/" + key, b"=" + key.encode())[0], 201, key)
            self.assertEqual(server.request("GET", "/kv/%2F")[1], b"=%2F")
            self.assertEqual(server.request("GET", "/kv/a%2Fb")[1], b"=a/b")
            self.assertEqual(server.request("GET", "/kv/%0a")[1], b"=%0A")

    def test_one_connection_serves_many_requests(self):
        for server in self.for_both():
            connection = server.connection()
            for i in range(50):
                self.assertEqual(answer(connection, "PUT", "/kv/x", b"%d" % i)[1], b"")
                self.assertEqual(answer(connection, "GET", "/kv/x")[1], b"%d" % i)
            connection.close()

    def test_limits(self):
        for server in self.for_both("--max-value-bytes=1000", "--max-key-bytes=20", "--max-bytes=1000000"):
            connection = server.connection()

            def status(method, path, body=None, headers=None, connection=connection):
                return answer(connection, method, path, body, headers)[0]

            self.assertEqual(status("PUT", "/kv/" + "k" * 20, b"v" * 1000), 201)
            self.assertEqual(status("PUT", "/kv/" + "k" * 21, b"v"), 414)
            self.assertEqual(status("GET", "/kv/" + "k" * 21), 414)
            self.assertEqual(status("PUT", "/kv/", b"v"), 400)
            self.assertEqual(status("PUT", "/kv/k", iter([b"v" * 500] * 2)), 201)
            self.assertEqual(status("DELETE", "/kv/k"), 204)
            connection.close()
            # Bodies that are too long: with an announced length, by a little, and endless. Versions of the library
            # differ: some read the rest, some close the connection while the client is still sending.
            for body in [b"v" * 1001, iter([b"v" * 600] * 2), iter([b"v" * 1000] * 500), b"v" * 5000000]:
                try:
                    self.assertEqual(server.request("PUT", "/kv/k", body)[0], 413)
                except ConnectionError:
                    pass
                self.assertEqual(server.request("GET", "/kv/k")[0], 404)

    def test_other_methods_and_paths(self):
        for server in self.for_both():
            self.assertEqual(server.request("GET", "/healthz")[:2], (200, b"ok\n"))
            self.assertEqual(server.request("GET", "/")[0], 404)
            self.assertEqual(server.request("GET", "/kv")[0], 404)
            self.assertEqual(server.request("PUT", "/healthz", b"x")[0], 404)
            self.assertEqual(server.request("POST", "/kv/k", b"x")[0], 405)
            self.assertEqual(server.request("PATCH", "/kv/k", b"x")[0], 405)
            self.assertEqual(server.request("DELETE", "/metrics")[0], 404)
            self.assertEqual(server.request("GET", "/" + "x" * 8000)[0], 404)
            self.assertEqual(server.request("GET", "/kv/" + "x" * 8000)[0], 414)
            self.assertEqual(server.request("PUT", "/kv/d", b"x")[0], 201)
            self.assertEqual(server.request("DELETE", "/kv/d", b"a body")[0], 204)

    def test_a_request_without_a_length_has_no_body(self):
        for server in self.for_both():
            with socket.create_connection(("127.0.0.1", server.port), 20) as raw:
                for method, status in (("PUT", 201), ("DELETE", 204), ("POST", 405), ("GET", 404)):
                    raw.sendall(b"%s /kv/k HTTP/1.1\r\nHost: x\r\n\r\n" % method.encode())
                    response = http.client.HTTPResponse(raw, method=method)
                    response.begin()
                    response.read()
                    self.assertEqual(response.status, status, method)

    def test_heap_profile_of_hakmem(self):
        for server in self.for_both():
            status, body, headers = server.request("GET", "/debug/pprof/heap")
            if server.allocator.startswith("hakmem"):
                self.assertEqual((status, headers.get_content_type()), (200, "application/octet-stream"))
                self.assertIn(b"inuse_space", gzip.decompress(body))
            else:
                self.assertEqual((status, headers.get_content_type()), (501, "text/plain"))
                self.assertEqual(body, b"libc's malloc has no heap profiler\n")
            self.assertEqual(server.request("GET", "/debug/pprof/allocs")[0], status)

    def test_growth_between_two_moments(self):
        for server in self.for_both():
            begin = time.monotonic()
            status, body, _ = server.request("GET", "/debug/pprof/heap?seconds=1")
            if server.allocator.startswith("hakmem"):
                self.assertGreaterEqual(time.monotonic() - begin, 1)
                self.assertEqual(status, 200)
                self.assertIn(b"growth_space", gzip.decompress(body))
            else:
                self.assertEqual(status, 501)
            for bad in ("", "0", "-1", "1.5", "121", "99999999999999999999", "x"):
                status, body, _ = server.request("GET", "/debug/pprof/heap?seconds=" + bad)
                self.assertEqual((status, body), (400, b"seconds must be a number from 1 to 120\n"), bad)

    def test_garbage_does_no_harm(self):
        rng = random.Random(2)
        for server in self.for_both():
            for i in range(30):
                with socket.create_connection(("127.0.0.1", server.port), 20) as raw:
                    text = rng.choice([b"", b"GET / HTTP/1.1\r\n", b"PUT /kv/x HTTP/1.1\r\nContent-Length: 9\r\n\r\nab"])
                    raw.sendall(text + rng.randbytes(rng.randrange(200)))
                    raw.shutdown(socket.SHUT_WR)
                    if i % 2:
                        raw.recv(1 << 16)
            self.assertEqual(server.request("GET", "/healthz")[0], 200)

    def test_listens_on_loopback_alone(self):
        for server in self.for_both():
            # All of 127.0.0.0/8 is this machine; the server listens only on 127.0.0.1.
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", server.port), 20).close()

    def test_a_taken_port_is_refused(self):
        for server in self.for_both():
            done = subprocess.run(
                [SERVERS[0], "--port=%d" % server.port], capture_output=True, text=True, timeout=30, check=False
            )
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("cannot listen on 127.0.0.1:%d: " % server.port, done.stderr)

    def test_sigterm_lets_a_request_finish(self):
        for program in SERVERS:
            with self.subTest(program=os.path.basename(program)), Server(program) as server:
                server.request("PUT", "/kv/x", b"before")
                with socket.create_connection(("127.0.0.1", server.port), 20) as raw:
                    raw.sendall(b"PUT /kv/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
                    while not server.has_read(raw):
                        time.sleep(0.01)
                    ended = []
                    thread = threading.Thread(target=lambda: ended.append(server.end()))
                    thread.start()
                    time.sleep(0.3)
                    self.assertEqual(ended, [], "it ended with a request at hand")
                    raw.sendall(b"56789")
                    answer = b""
                    while True:
                        part = raw.recv(4096)
                        if not part:
                            break
                        answer += part
                    self.assertTrue(answer.startswith(b"HTTP/1.1 204 "), answer)
                    thread.join()
                self.assertEqual(ended, [(0, "ended\n")])

    def test_ends_at_once_with_connections_at_rest(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with Server(SERVERS[0]) as server:
                idle = server.connection()
                idle.request("GET", "/healthz")
                idle.getresponse().read()
                begin = time.monotonic()
                self.assertEqual(server.end(number), (0, "ended\n"))
                self.assertLess(time.monotonic() - begin, 10)
                idle.close()

    def test_a_signal_right_after_the_start_counts(self):
        for _ in range(10):
            with Server(SERVERS[0]) as server:
                self.assertEqual(server.end(), (0, "ended\n"))

    def test_bad_options(self):
        for options, what in [
            (["--no-such-option"], "no such option: --no-such-option"),
            (["here"], "no such option: here"),
            (["--port"], "--port needs a value"),
            (["--port="], "--port takes a number from 0 to 65535"),
            (["--port=65536"], "--port takes a number from 0 to 65535"),
            (["--port", "-1"], "--port takes a number"),
            (["--threads=0"], "--threads takes a number from 1 to 1024"),
            (["--threads=4x"], "--threads takes a number"),
            (["--max-bytes=99999999999999999999999"], "--max-bytes takes a number"),
            (["--max-bytes=4096"], "--max-bytes must be at least 16 times"),
        ]:
            for program in SERVERS:
                done = subprocess.run([program, *options], capture_output=True, text=True, timeout=30, check=False)
                self.assertEqual((done.returncode, done.stdout), (2, ""), options)
                self.assertTrue(done.stderr.startswith(what), done.stderr)
                self.assertIn("usage: ", done.stderr)

    def test_help(self):
        done = subprocess.run([SERVERS[0], "--help"], capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("--max-value-bytes N", done.stdout)


if __name__ == "__main__":
    SERVERS += sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
