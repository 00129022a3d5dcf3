#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""metrics_test.py SERVER SERVER_LIBC LOAD: the contents of /metrics, and which malloc the servers run on."""

import re
import subprocess
import sys
import time
import unittest

from exposition import parse, value_of
from running import Server

SERVERS = []
TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(server):
    status, body, headers = server.request("GET", "/metrics")
    assert (status, headers["Content-Type"]) == (200, TYPE), (status, headers["Content-Type"])
    return parse(body.decode())


def settled(server, requests):
    """The values once `requests` requests are counted, and how many were made here to see that.

    A request is counted after it was answered, so the next one, on another thread, may come first.
    """
    for asked in range(1000):
        values = metrics(server)
        counted = value_of(values, "kv_http_request_duration_seconds_count")
        # They are not read at the same moment.
        if counted == sum(values["kv_http_requests_total"].values()) == requests + asked:
            return values, asked
        time.sleep(0.01)
    raise AssertionError("%d requests were not counted" % requests)


class MetricsTest(unittest.TestCase):
    def test_counts_requests(self):
        for program in SERVERS:
            with self.subTest(program=program), Server(program) as server:
                for i in range(7):
                    server.request("PUT", "/kv/%d" % (i % 5), b"12345")
                for i in range(9):
                    server.request("GET", "/kv/%d" % i)
                server.request("DELETE", "/kv/0")
                server.request("POST", "/kv/0", b"x")
                values, asked = settled(server, 18)
                requests = {
                    (dict(labels)["method"], dict(labels)["code"]): value
                    for labels, value in values["kv_http_requests_total"].items()
                }
                self.assertEqual(
                    requests,
                    {
                        ("PUT", "201"): 5,
                        ("PUT", "204"): 2,
                        ("GET", "200"): 5 + asked,
                        ("GET", "404"): 4,
                        ("DELETE", "204"): 1,
                        ("other", "405"): 1,
                    },
                )
                seconds = value_of(values, "kv_http_request_duration_seconds_sum")
                self.assertTrue(0 < seconds < 30, seconds)
                self.assertEqual(value_of(values, "kv_store_items"), 4)
                self.assertEqual(value_of(values, "kv_store_bytes"), 4 * 6)
                # The last request for the metrics is counted too.
                settled(server, 18 + asked + 1)

    def test_the_limit_holds(self):
        limit = 1 << 20
        for program in SERVERS:
            options = ["--max-bytes=%d" % limit, "--max-value-bytes=4096"]
            with self.subTest(program=program), Server(program, *options) as server:
                connection = server.connection()
                for i in range(1000):
                    connection.request("PUT", "/kv/%04d" % i, b"v" * 4092)
                    connection.getresponse().read()
                connection.close()
                values = metrics(server)
                self.assertEqual(value_of(values, "kv_store_limit_bytes"), limit)
                self.assertEqual(value_of(values, "kv_store_bytes"), 4096 * value_of(values, "kv_store_items"))
                self.assertTrue(limit / 2 < value_of(values, "kv_store_bytes") <= limit)
                self.assertEqual(value_of(values, "kv_store_evictions_total") + value_of(values, "kv_store_items"), 1000)
                # The least recently used keys are gone, the latest are present.
                self.assertEqual(server.request("GET", "/kv/0000")[0], 404)
                self.assertEqual(server.request("GET", "/kv/0999")[0], 200)

    def test_process(self):
        for program in SERVERS:
            with self.subTest(program=program), Server(program) as server:
                before = value_of(metrics(server), "process_resident_memory_bytes")
                for i in range(16):
                    server.request("PUT", "/kv/%d" % i, b"x" * (1 << 20))
                values = metrics(server)
                after = value_of(values, "process_resident_memory_bytes")
                self.assertGreater(after - before, 15 << 20)
                self.assertGreaterEqual(value_of(values, "process_resident_memory_max_bytes"), after)
                self.assertGreater(value_of(values, "process_cpu_seconds_total"), 0)
                self.assertGreater(value_of(values, "process_start_time_seconds"), 1.6e9)
                self.assertGreater(value_of(values, "process_threads"), 16)

    def test_hakmem_is_the_malloc(self):
        with Server(SERVERS[0]) as server:
            self.assertRegex(server.allocator, r"^hakmem \d+\.\d+\.\d+ ")
            before = metrics(server)
            (labels,) = before["hakmem_build_info"]
            self.assertEqual("hakmem " + dict(labels)["version"], server.allocator)
            keys = 2000
            connection = server.connection()
            for i in range(keys):
                connection.request("PUT", "/kv/%d" % i, b"v" * 300)
                connection.getresponse().read()
            for i in range(4):
                connection.request("PUT", "/kv/large%d" % i, b"v" * (1 << 20))
                connection.getresponse().read()
            connection.close()
            after = metrics(server)
            rise = {name: value_of(after, name) - value_of(before, name) for name in after if after[name].keys() == {()}}
            # Each key needs a node of the list, a node of the index, the shared string and its bytes.
            self.assertGreaterEqual(rise["hakmem_live_blocks"], 4 * keys)
            self.assertGreaterEqual(rise["hakmem_live_bytes"], 300 * keys + (4 << 20))
            self.assertGreaterEqual(sum(after["hakmem_class_live_blocks"].values()), 4 * keys)
            self.assertGreaterEqual(sum(after["hakmem_large_range_bytes"].values()), 4 << 20)
            self.assertGreater(value_of(after, "hakmem_resident_bytes"), 4 << 20)
            self.assertGreaterEqual(rise["hakmem_large_blocks"], 4)
            self.assertGreaterEqual(rise["hakmem_large_bytes"], 4 << 20)
            self.assertGreaterEqual(value_of(after, "hakmem_committed_bytes"), value_of(after, "hakmem_live_bytes"))
            self.assertGreaterEqual(value_of(after, "hakmem_mapped_bytes"), value_of(after, "hakmem_committed_bytes"))
            self.assertGreater(value_of(after, "hakmem_os_calls_total"), 0)
            for i in range(keys):
                server_connection = server.connection() if i % 500 == 0 else server_connection
                server_connection.request("DELETE", "/kv/%d" % i)
                server_connection.getresponse().read()
                if i % 500 == 499:
                    server_connection.close()
            gone = metrics(server)
            self.assertLess(
                value_of(gone, "hakmem_live_blocks"), value_of(after, "hakmem_live_blocks") - 4 * keys + 200
            )

    def test_libc_is_the_malloc_of_the_other(self):
        with Server(SERVERS[1]) as server:
            self.assertEqual(server.allocator, "libc")
            before = value_of(metrics(server), "libc_malloc_live_bytes")
            for i in range(200):
                server.request("PUT", "/kv/%d" % i, b"v" * 3000)
            values = metrics(server)
            self.assertGreaterEqual(value_of(values, "libc_malloc_live_bytes") - before, 200 * 3000)
            self.assertEqual([name for name in values if name.startswith("hakmem")], [])

    def test_whose_malloc_the_programs_hold(self):
        for program, own in ((SERVERS[0], True), (SERVERS[1], False)):
            symbols = subprocess.run(["nm", "-D", program], stdout=subprocess.PIPE, text=True, check=True).stdout
            for name in ("malloc", "free", "realloc", "_Znwm", "_ZdlPv"):
                found = re.search(r"^(?:[0-9a-f]+)? +([TUW]) %s(?:@.*)?$" % name, symbols, re.M)
                self.assertEqual(bool(found) and found.group(1) in "TW", own, "%s in %s" % (name, program))


if __name__ == "__main__":
    SERVERS += sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
