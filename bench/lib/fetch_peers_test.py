# SPDX-License-Identifier: Apache-2.0
"""--fetch-peers, from a mirror that this test makes in a folder."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import unittest

from bench.lib import allocators, fetch_peers

NOOP = os.path.join(allocators.BENCH, "lib", "libnoop.so")


class FetchTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hakmem-fetch-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.mirror = os.path.join(self.folder, "mirror")
        os.mkdir(self.mirror)
        self.saved = allocators.PEER_CACHE, allocators.LIBRARY_DIRS
        allocators.PEER_CACHE = os.path.join(self.folder, "cache")
        allocators.LIBRARY_DIRS = (os.path.join(allocators.PEER_CACHE, "*", "usr", "lib", "*-linux-gnu"),)
        self.addCleanup(self.restore)

    def restore(self):
        allocators.PEER_CACHE, allocators.LIBRARY_DIRS = self.saved

    def publish(self, version, library, package=fetch_peers.PACKAGE):
        """A mirror with one package, whose library is a copy of the file `library`; None: it has none."""
        architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
        tree = tempfile.mkdtemp(dir=self.folder)
        os.chmod(tree, 0o755)
        fields = (f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n"
                  "Maintainer: nobody <nobody@example.org>\nDescription: a test\n")
        os.mkdir(os.path.join(tree, "DEBIAN"))
        with open(os.path.join(tree, "DEBIAN", "control"), "w", encoding="ascii") as file:
            file.write(fields)
        if library:
            place = os.path.join(tree, "usr", "lib", "x86_64-linux-gnu")
            os.makedirs(place)
            shutil.copy(library, os.path.join(place, "libmimalloc.so.3"))
        name = f"pool/{package}_{version}_{architecture}.deb"
        deb = os.path.join(self.mirror, name)
        os.makedirs(os.path.dirname(deb), exist_ok=True)
        subprocess.check_output(["dpkg-deb", "--root-owner-group", "--build", tree, deb], stderr=subprocess.STDOUT)
        with open(deb, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        index = os.path.join(self.mirror, "dists", "sid", "main", "binary-" + architecture)
        os.makedirs(index, exist_ok=True)
        with open(os.path.join(index, "Packages"), "w", encoding="ascii") as file:
            file.write(f"{fields}Filename: {name}\nSize: {os.path.getsize(deb)}\nSHA256: {digest}\n\n")
        return deb

    def fetch(self):
        return fetch_peers.fetch("file://" + self.mirror)

    def refused(self, pattern):
        with self.assertRaisesRegex(fetch_peers.FetchError, pattern) as caught:
            self.fetch()
        self.assertNotIn("\n", str(caught.exception))
        # Nothing is left behind.
        self.assertEqual([name for name in os.listdir(allocators.PEER_CACHE) if name != fetch_peers.PEER], [])

    def test_a_package_becomes_a_peer_and_a_newer_one_replaces_it(self):
        for version in ("3.0.1-1", "3.0.2+ds-1"):
            self.publish(version, NOOP)
            self.assertEqual(self.fetch(), version)
            found, missing = allocators.select(fetch_peers.PEER, "/")
            self.assertEqual(missing, [])
            self.assertTrue(found[0].path.startswith(os.path.join(self.folder, "cache", "mimalloc3", "usr")), found[0].path)
            self.assertEqual(allocators.fetched(found[0]), f"libmimalloc3 {version} of Debian sid")
        self.assertEqual(os.listdir(allocators.PEER_CACHE), ["mimalloc3"])
        self.assertIsNone(allocators.fetched(allocators.Allocator("mimalloc3", "/usr/lib/libmimalloc.so.3")))
        self.assertIsNone(allocators.fetched(allocators.Allocator("glibc", None)))
        # A mirror that is gone leaves what is there.
        shutil.rmtree(self.mirror)
        self.refused("^cannot read file:///")
        self.assertIsNotNone(allocators.fetched(found[0]))

    def test_no_network(self):
        # Nothing listens on this port, which only root may open.
        with self.assertRaisesRegex(fetch_peers.FetchError, "^cannot read http://127.0.0.1:1/debian: .*onnect") as caught:
            fetch_peers.fetch("http://127.0.0.1:1/debian")
        self.assertNotIn("\n", str(caught.exception))

    def test_a_mirror_without_the_package(self):
        self.publish("1.0-1", NOOP, package="another")
        self.refused("^cannot get libmimalloc3 of sid from file:///.*: E: .*nable to locate package")

    def test_a_package_that_was_changed(self):
        deb = self.publish("3.0.1-1", NOOP)
        with open(deb, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
        self.refused("^cannot get libmimalloc3 of sid from file:///.*: E: .*")

    def test_a_package_without_a_library(self):
        self.publish("3.0.1-1", None)
        self.refused("^libmimalloc3 3.0.1-1 has no libmimalloc.so.3$")

    def test_a_library_that_does_not_load(self):
        text = os.path.join(self.folder, "text")
        with open(text, "w", encoding="ascii") as file:
            file.write("no library")
        self.publish("3.0.1-1", text)
        self.refused("^libmimalloc3 does not run here: .*cannot be preloaded")

    def test_mirrors(self):
        for good in ("http://mirror.example/debian", "https://mirror.example/debian/", "file:///srv/mirror"):
            self.assertTrue(fetch_peers.is_mirror(good), good)
        for bad in ("", "nope", "ftp://x/", "file://host", "http://", "http:///x", "http://a b", "http://a [trusted=yes]",
                    "http://a\nb"):
            self.assertFalse(fetch_peers.is_mirror(bad), bad)


if __name__ == "__main__":
    unittest.main()
