#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Debian package: its contents and control data, whether it is reproducible, and whether it can be installed and
used.

usage: deb_test.py MAKE_DEB PACKAGE ARCHITECTURE MULTIARCH FILE...

The FILEs are those of the package, for making it again.
"""

import gzip
import hashlib
import os
import re
import sys
import unittest

import commands

MAKE_DEB, PACKAGE, ARCHITECTURE, MULTIARCH, *SOURCES = sys.argv[1:]
LIB = "usr/lib/" + MULTIARCH


def run(*command, check=True, **how):
    return commands.run(*command, check=check, text=False, **how)


class Deb(commands.DebTest):
    package = PACKAGE

    def files(self):
        return commands.files_below(self.root)

    def field(self, name):
        return run("dpkg-deb", "-f", PACKAGE, name).stdout.decode().strip()

    def make(self, name, **variables):
        output = self.scratch / name
        done = run(MAKE_DEB, "--architecture", ARCHITECTURE, "--multiarch", MULTIARCH, "--strip", "/usr/bin/strip", output,
                   *SOURCES, check=False, **variables)
        return done, output

    def uses_it(self, root):
        done = run(root / "usr/bin/hakmem-run", "HAKMEM_SHOW_CONFIG=1", "sort", "/etc/passwd")
        self.assertEqual(done.stdout, run("sort", "/etc/passwd").stdout)
        self.assertIn(b"\nhakmem: in use: this process calls hakmem ", done.stderr)

    # ---- Contents and control data -----------------------------------------------------------------

    def test_fields(self):
        self.assertEqual(self.field("Package"), "hakmem")
        self.assertEqual(self.field("Architecture"), ARCHITECTURE)
        version = self.field("Version")
        self.assertEqual(version, commands.version_of(self.root / "usr"))
        self.assertEqual(os.path.basename(PACKAGE), "hakmem_%s_%s.deb" % (version, ARCHITECTURE))
        self.assertRegex(self.field("Depends"), r"^libc6 \(>= 2\.\d+\)$")
        self.assertEqual(self.field("Recommends"), "python3")
        for name in "Maintainer", "Section", "Priority", "Description":
            self.assertNotEqual(self.field(name), "", name)
        for line in self.control.splitlines():
            self.assertLessEqual(len(line), 80)

    def test_the_libc_is_new_enough_for_every_symbol(self):
        wanted = tuple(map(int, re.search(r"2\.\d+", self.field("Depends")).group(0).split(".")))
        used = set()
        for name in LIB + "/libhakmem.so.0", "usr/bin/hakmem-run":
            symbols = run("objdump", "-T", self.root / name).stdout.decode()
            used |= {tuple(map(int, text.split("."))) for text in re.findall(r"GLIBC_(2\.\d+)", symbols)}
        self.assertEqual(max(used), wanted)

    def test_files_owners_and_modes(self):
        version = self.field("Version")
        self.assertEqual(self.files(), sorted([
            "usr/bin/hakmem-prof", "usr/bin/hakmem-run", "usr/bin/hakmem-top", "usr/include/hakmem/compat/jemalloc.h", "usr/include/hakmem/compat/tcmalloc.h",
            "usr/include/hakmem/expect_heap.h", "usr/include/hakmem/hakmem.h", "usr/include/hakmem/memory_resource.h",
            "usr/include/hakmem/pprof.h", "usr/include/hakmem/stl_allocator.h", LIB + "/cmake/hakmem/hakmem-config-version.cmake",
            LIB + "/cmake/hakmem/hakmem-config.cmake", LIB + "/libhakmem.a", LIB + "/libhakmem.so",
            LIB + "/libhakmem.so.0", LIB + "/libhakmem.so." + version, LIB + "/pkgconfig/hakmem-static.pc",
            LIB + "/pkgconfig/hakmem.pc", "usr/share/doc/hakmem/changelog.gz", "usr/share/doc/hakmem/copyright",
            "usr/share/hakmem/prof/prof_elf.py", "usr/share/hakmem/prof/prof_page.html", "usr/share/hakmem/prof/prof_page.py",
            "usr/share/hakmem/prof/prof_profile.py", "usr/share/hakmem/prof/prof_report.py",
            "usr/share/hakmem/prof/prof_symbols.py", "usr/share/hakmem/top/top_page.py", "usr/share/hakmem/top/top_view.py",
            "usr/share/man/man1/hakmem-prof.1.gz", "usr/share/man/man1/hakmem-run.1.gz", "usr/share/man/man1/hakmem-top.1.gz", "usr/share/man/man3/hakmem.3.gz"]))
        for line in run("dpkg-deb", "-c", PACKAGE).stdout.decode().splitlines():
            mode, owner, _, _, _, name = line.split()[:6]
            self.assertEqual(owner, "root/root", line)
            wanted = {"d": "drwxr-xr-x", "l": "lrwxrwxrwx"}.get(mode[0], "-rw-r--r--")
            self.assertEqual(mode, "-rwxr-xr-x" if name.startswith("./usr/bin/hakmem-") else wanted, line)

    def test_md5sums_and_size(self):
        lines = (self.scratch / "control/md5sums").read_text().splitlines()
        sums = dict(reversed(line.split("  ")) for line in lines)
        plain = [name for name in self.files() if not (self.root / name).is_symlink()]
        self.assertEqual(sums, {name: hashlib.md5((self.root / name).read_bytes()).hexdigest() for name in plain})
        size = sum(-(-(self.root / name).stat().st_size // 1024) for name in plain)
        self.assertLessEqual(abs(int(self.field("Installed-Size")) - size), 30)

    def test_maintenance_of_a_shared_library(self):
        self.assertEqual((self.scratch / "control/triggers").read_text(), "activate-noawait ldconfig\n")
        self.assertEqual((self.scratch / "control/shlibs").read_text(), "libhakmem 0 hakmem (>= %s)\n" % self.field("Version"))
        self.assertEqual(sorted(os.listdir(self.scratch / "control")), ["control", "md5sums", "shlibs", "triggers"])

    def test_documents(self):
        changelog = gzip.decompress((self.root / "usr/share/doc/hakmem/changelog.gz").read_bytes()).decode()
        self.assertTrue(changelog.startswith("hakmem (%s) " % self.field("Version")))
        self.assertRegex(changelog, r"\n -- .+ <\S+@\S+>  \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4}\n$")
        self.assertIn("/usr/share/common-licenses/Apache-2.0", (self.root / "usr/share/doc/hakmem/copyright").read_text())
        page = gzip.decompress((self.root / "usr/share/man/man1/hakmem-run.1.gz").read_bytes())
        self.assertIn(b".TH HAKMEM-RUN 1", page)
        self.assertIn("prefix=/usr\n", (self.root / LIB / "pkgconfig/hakmem.pc").read_text())

    def test_binaries_are_stripped(self):
        for name in LIB + "/libhakmem.so.0", "usr/bin/hakmem-run":
            self.assertNotIn(b".symtab", run("readelf", "-SW", self.root / name).stdout)
        # The files that a linker needs are there.
        self.assertIn(b" T malloc\n", run("nm", self.root / LIB / "libhakmem.a").stdout)

    # ---- The same each time ------------------------------------------------------------------------

    def test_the_same_anywhere_at_any_time(self):
        _, first = self.make("first.deb")
        (self.scratch / "elsewhere").mkdir()
        before = os.umask(0o077)
        _, second = self.make("second.deb", TMPDIR=str(self.scratch / "elsewhere"), TZ="Asia/Tokyo", HOME="/nowhere")
        os.umask(before)
        self.assertEqual(first.read_bytes(), second.read_bytes())
        _, later = self.make("later.deb", SOURCE_DATE_EPOCH="1767312000")
        self.assertNotEqual(first.read_bytes(), later.read_bytes())
        self.assertIn(b"2026-01-02", run("dpkg-deb", "-c", later, TZ="UTC").stdout)

    def test_bad_input(self):
        done, output = self.make("bad.deb", SOURCE_DATE_EPOCH="yesterday")
        self.assertEqual((done.returncode, output.exists()), (1, False))
        self.assertIn(b"make_deb: SOURCE_DATE_EPOCH is no number", done.stderr)
        self.assertEqual(run(MAKE_DEB, "x.deb", check=False).returncode, 2)

    # ---- In use ------------------------------------------------------------------------------------

    def test_unpacked_it_works(self):
        self.uses_it(self.root)

    def test_the_source_is_a_real_one(self):
        # Nobody has published this build, so it names no page that would not be there.
        self.assertEqual(self.field("Homepage"), "")
        copyright = (self.root / "usr/share/doc/hakmem/copyright").read_text()
        self.assertIn("\nSource: hakmem-%s.tar.gz, the sources with the git tag v%s\n" % (2 * (self.field("Version"),)), copyright)
        _, published = self.make("published.deb", DEBFULLNAME="A. Packager", DEBEMAIL="packager@debs.test",
                                 DEB_HOMEPAGE="https://malloc.test/hakmem")
        root = self.scratch / "published"
        run("dpkg-deb", "-x", published, root)
        fields = run("dpkg-deb", "-f", published, "Maintainer", "Homepage").stdout.decode()
        self.assertEqual(fields, "Maintainer: A. Packager <packager@debs.test>\nHomepage: https://malloc.test/hakmem\n")
        self.assertIn("\nSource: https://malloc.test/hakmem\n", (root / "usr/share/doc/hakmem/copyright").read_text())
        changelog = gzip.decompress((root / "usr/share/doc/hakmem/changelog.gz").read_bytes()).decode()
        self.assertIn("\n -- A. Packager <packager@debs.test>  ", changelog)
        for name, value in ("DEBEMAIL", "nobody"), ("DEBFULLNAME", "a\nb"), ("DEB_HOMEPAGE", "malloc.test"):
            done, output = self.make("bad.deb", **{name: value})
            self.assertEqual((done.returncode, output.exists()), (1, False), name)
            self.assertIn(b"make_deb: DEB", done.stderr)

    def test_installed_and_removed_by_dpkg(self):
        root = self.scratch / "system"
        (root / "var/lib/dpkg/updates").mkdir(parents=True)
        (root / "var/lib/dpkg/info").mkdir()
        (root / "var/lib/dpkg/triggers").mkdir()
        for name in "status", "available":
            (root / "var/lib/dpkg" / name).touch()
        # The C library on which it depends is the machine's, not the scratch system's.
        dpkg = ["dpkg", "--root=%s" % root, "--force-depends", "--force-unsafe-io", "--log=/dev/null"]
        if os.getuid() != 0:  # Then the files are the user's.
            dpkg.append("--force-not-root")
        run(*dpkg, "-i", PACKAGE)
        self.assertIn(b"Status: install ok installed", run(*dpkg, "-s", "hakmem").stdout)
        self.assertEqual(run(*dpkg, "--verify", "hakmem").stdout, b"")
        listed = [line for line in run(*dpkg, "-L", "hakmem").stdout.decode().splitlines() if line != "/."]
        self.assertEqual([name[1:] for name in sorted(listed) if not os.path.isdir(str(root) + name)], self.files())
        self.assertEqual([name for name in commands.files_below(root) if not name.startswith("var/lib/dpkg/")], self.files())
        self.uses_it(root)
        run(*dpkg, "-r", "hakmem")
        run(*dpkg, "-P", "hakmem", check=False)  # Without configuration files nothing is left to purge.
        self.assertNotEqual(run(*dpkg, "-s", "hakmem", check=False).returncode, 0)
        self.assertEqual([str(path) for path in root.rglob("*hakmem*")], [])
        self.assertEqual(os.listdir(root), ["var"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
