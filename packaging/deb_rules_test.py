#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's rules for a package, by hand for a machine without lintian; with lintian also what it says.

usage: deb_rules_test.py PACKAGE MULTIARCH
"""

import gzip
import os
import re
import shutil
import stat
import subprocess
import sys
import unittest

import commands

PACKAGE, MULTIARCH = sys.argv[1:]
LIB = "usr/lib/" + MULTIARCH
# What lintian may say: both are because one package has what Debian would put into three.
WARNINGS = ["link-to-shared-library-in-wrong-package", "package-name-doesnt-match-sonames"]


def run(*command, **how):
    return commands.run(*command, check=True, **how).stdout


class DebRules(commands.DebTest):
    package = PACKAGE

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = commands.files_below(cls.root)
        cls.plain = [name for name in cls.files if not (cls.root / name).is_symlink()]

    def elf_files(self):
        found = [name for name in self.plain if (self.root / name).read_bytes()[:4] == b"\x7fELF"]
        self.assertEqual(len(found), 2, found)  # the library and hakmem-run
        return found

    # ---- Control data ------------------------------------------------------------------------------

    def test_fields(self):
        fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", self.control, re.MULTILINE))
        self.assertEqual(set(fields), {"Package", "Version", "Architecture", "Multi-Arch", "Maintainer", "Installed-Size",
                                       "Depends", "Recommends", "Suggests", "Section", "Priority", "Description"})
        self.assertRegex(fields["Package"], r"^[a-z0-9][a-z0-9+.-]+$")
        self.assertRegex(fields["Version"], r"^\d+(\.\d+)*$")  # a package of its own sources has no Debian revision
        self.assertRegex(fields["Maintainer"], r"^[^<>,@]+ <[^<>\s@]+@[^<>\s@]+\.[^<>\s@]+>$")
        self.assertRegex(fields["Installed-Size"], r"^[1-9]\d*$")
        self.assertIn(fields["Section"], ("libs", "libdevel", "devel", "utils"))
        self.assertEqual(fields["Priority"], "optional")  # `extra` is gone; others are for the base system
        # The interpreter of the scripts that it has.
        if any((self.root / name).read_bytes().startswith(b"#!/usr/bin/env python3") for name in self.plain):
            self.assertIn("python3", fields["Recommends"] + fields["Depends"])

    def test_description(self):
        synopsis, *lines = self.control[self.control.index("\nDescription: ") + 14:].splitlines()
        self.assertTrue(0 < len(synopsis) < 80, synopsis)
        self.assertNotRegex(synopsis, r"^(an?|the|hakmem)\b|\.$|\s$|\t")
        self.assertGreater(len(lines), 2)
        for line in lines:
            self.assertRegex(line, r"^ (\.|\S.*\S)$")
            self.assertLessEqual(len(line), 80)
        self.assertNotEqual(lines[0].strip(), synopsis)
        self.assertNotIn(lines[-1], (" .", " "))

    def test_control_files(self):
        for name in os.listdir(self.scratch / "control"):
            self.assertEqual(stat.S_IMODE((self.scratch / "control" / name).stat().st_mode), 0o644, name)
        sums = (self.scratch / "control/md5sums").read_text()
        self.assertRegex(sums, r"^([0-9a-f]{32}  usr/\S+\n)+$")
        self.assertEqual(sorted(line[34:] for line in sums.splitlines()), self.plain)

    # ---- Files -------------------------------------------------------------------------------------

    def test_places_and_modes(self):
        for name in self.files:
            self.assertRegex(name, r"^usr/(bin|include|lib|share)/[!-~]+$")
        for path in self.root.rglob("*"):
            mode = path.lstat().st_mode
            if path.is_symlink():
                self.assertNotIn("/", os.readlink(path), path)
                self.assertTrue(path.exists(), path)
            elif path.is_dir():
                self.assertEqual(stat.S_IMODE(mode), 0o755, path)
                self.assertNotEqual(os.listdir(path), [], path)
            else:
                self.assertIn(stat.S_IMODE(mode), (0o644, 0o755), path)
                self.assertEqual(mode & 0o111 != 0, path.parent.name == "bin", path)

    def test_documents(self):
        folder = self.root / "usr/share/doc/hakmem"
        self.assertEqual(sorted(os.listdir(folder)), ["changelog.gz", "copyright"])
        copyright = (folder / "copyright").read_text()
        for line in "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/", "Files: *", "License: Apache-2.0":
            self.assertIn("\n%s\n" % line, "\n" + copyright)
        self.assertRegex(copyright, r"\nCopyright: \d{4} \S+")
        self.assertNotIn("Grant of Patent License", copyright)  # the common text is referred to, not copied

    def test_compressed_files(self):
        found = [name for name in self.plain if name.endswith(".gz")]
        self.assertIn("usr/share/doc/hakmem/changelog.gz", found)
        for name in found:
            content = (self.root / name).read_bytes()
            # No name and no time in the header; made by the best compression.
            self.assertEqual(content[:9], b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02", name)
            self.assertGreater(len(gzip.decompress(content)), 0, name)
        self.assertEqual([name for name in self.plain if "/man/" in name and name not in found], [])

    def test_every_program_and_the_header_have_a_page(self):
        pages = [re.fullmatch(r"usr/share/man/man(\d)/([\w-]+)\.(\d)\.gz", name) for name in self.files if "/man/" in name]
        self.assertTrue(all(page is not None and page.group(1) == page.group(3) for page in pages))
        names = {(page.group(2), page.group(1)) for page in pages}
        self.assertEqual(names, {(name[8:], "1") for name in self.files if name.startswith("usr/bin/")} | {("hakmem", "3")})

    # ---- Code --------------------------------------------------------------------------------------

    def test_programs_and_the_library(self):
        for name in self.elf_files():
            sections = run("readelf", "-SW", self.root / name)
            for section in ".symtab", ".debug_", ".comment":
                self.assertNotIn(" " + section, sections, name)
            dynamic = run("readelf", "-dW", self.root / name)
            self.assertNotRegex(dynamic, r"\((RPATH|RUNPATH|TEXTREL)\)")
            self.assertRegex(run("readelf", "-lW", self.root / name), r"GNU_STACK .* RW +0")
            needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
            # All of the C library's package, which is the only one that is named.
            self.assertLessEqual(needed, {"libc.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2",
                                          "ld-linux-aarch64.so.1"}, name)

    def test_the_shared_library_can_be_found(self):
        version = re.search(r"^Version: (.*)$", self.control, re.MULTILINE).group(1)
        for link, target in ("libhakmem.so", "libhakmem.so.0"), ("libhakmem.so." + version, "libhakmem.so.0"):
            if (self.root / LIB / link).is_symlink():
                self.assertTrue((self.root / LIB / link).samefile(self.root / LIB / target), link)
        name = re.search(r"\(SONAME\).*\[(.*)\]", run("readelf", "-dW", self.root / LIB / "libhakmem.so.0")).group(1)
        self.assertEqual(name, "libhakmem.so.0")
        self.assertEqual((self.scratch / "control/shlibs").read_text().split()[:2], name.split(".so."))
        self.assertIn("ldconfig", (self.scratch / "control/triggers").read_text())

    def test_the_archive_has_no_debugging_information(self):
        self.assertNotIn(" .debug_", run("readelf", "-SW", self.root / LIB / "libhakmem.a"))

    def test_nothing_names_the_folder_where_it_was_built(self):
        for name in self.plain:
            self.assertNotRegex((self.root / name).read_bytes(), rb"/(sandbox|execroot|bazel-out)/", name)

    # ---- lintian -----------------------------------------------------------------------------------

    def test_lintian_finds_no_error(self):
        lintian = shutil.which("lintian")
        if lintian is None:  # The rules above are those that it would check.
            print("lintian is not installed")
            return
        done = subprocess.run([lintian, "--fail-on", "error", "--no-tag-display-limit", PACKAGE], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": str(self.scratch),
                                   "TMPDIR": str(self.scratch)})
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(re.findall(r"^E: .*", done.stdout, re.MULTILINE), [])
        self.assertLessEqual(set(re.findall(r"^W: \S+ (\S+)", done.stdout, re.MULTILINE)), set(WARNINGS))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
