#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The installed tree: its files, and programs that are built with it by pkg-config and by CMake.

usage: install_test.py INSTALL CONSUMER_FOLDER --source=FILE...

Compiler, pkg-config and cmake are the system's.
"""

import os
import pathlib
import re
import stat
import subprocess
import sys
import unittest

from commands import PackageTest, files_below, run, version_of

INSTALL, CONSUMER, SOURCES = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), sys.argv[3:]
SERVES = re.compile(r"hakmem \d+\.\d+\.\d+ \w+ header=\w+ serves\n")

FILES = ["bin/hakmem-prof", "bin/hakmem-run", "bin/hakmem-top", "include/hakmem/compat/jemalloc.h", "include/hakmem/compat/tcmalloc.h",
         "include/hakmem/expect_heap.h", "include/hakmem/hakmem.h", "include/hakmem/memory_resource.h", "include/hakmem/pprof.h",
         "include/hakmem/stl_allocator.h",
         "lib/cmake/hakmem/hakmem-config-version.cmake",
         "lib/cmake/hakmem/hakmem-config.cmake", "lib/libhakmem.a", "lib/libhakmem.so", "lib/libhakmem.so.0",
         "lib/libhakmem.so.VERSION", "lib/pkgconfig/hakmem-static.pc", "lib/pkgconfig/hakmem.pc",
         "share/doc/hakmem/LICENSE", "share/hakmem/prof/prof_elf.py", "share/hakmem/prof/prof_page.html",
         "share/hakmem/prof/prof_page.py", "share/hakmem/prof/prof_profile.py", "share/hakmem/prof/prof_report.py",
         "share/hakmem/prof/prof_symbols.py", "share/hakmem/top/top_page.py", "share/hakmem/top/top_view.py",
         "share/man/man1/hakmem-prof.1", "share/man/man1/hakmem-run.1", "share/man/man1/hakmem-top.1", "share/man/man3/hakmem.3"]


def install(*arguments, **variables):
    return run(INSTALL, *SOURCES, *arguments, **variables)


class Installed(PackageTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prefix = cls.scratch / "prefix"
        cls.said = install(cls.prefix, check=True).stdout
        cls.version = version_of(cls.prefix)

    def ok(self, *command, **how):
        return run(*command, check=True, **how).stdout

    def expected_files(self):
        return sorted(name.replace("VERSION", self.version) for name in FILES)

    def serves(self, program, **variables):
        self.assertRegex(self.ok(program, **variables), SERVES)

    # ---- The files ---------------------------------------------------------------------------------

    def test_files_modes_and_links(self):
        self.assertEqual(files_below(self.prefix), self.expected_files())
        self.assertEqual(sorted(self.said.splitlines()), [str(self.prefix / name) for name in self.expected_files()])
        for path in self.prefix.rglob("*"):
            mode = stat.S_IMODE(path.lstat().st_mode)
            if not path.is_symlink():
                wanted = 0o755 if path.is_dir() or path.name in ("hakmem-run", "hakmem-prof", "hakmem-top") else 0o644
                self.assertEqual(oct(mode), oct(wanted), path)
            self.assertFalse(path.name.startswith("."), path)
        lib = self.prefix / "lib"
        self.assertEqual(os.readlink(lib / "libhakmem.so"), "libhakmem.so.0")
        self.assertEqual(os.readlink(lib / "libhakmem.so.0"), "libhakmem.so." + self.version)
        self.assertIn("Library soname: [libhakmem.so.0]", self.ok("readelf", "-dW", lib / "libhakmem.so"))

    def test_nothing_is_left_to_fill_in(self):
        for name in self.expected_files():
            if name.endswith((".pc", ".cmake", ".1", ".3")):
                self.assertIsNone(re.search("@[A-Z]+@", (self.prefix / name).read_text()), name)

    def test_again_and_for_a_packager(self):
        before = {name: (self.prefix / name).read_bytes() for name in self.expected_files()}
        self.assertEqual(install(self.prefix).returncode, 0)
        self.assertEqual({name: (self.prefix / name).read_bytes() for name in files_below(self.prefix)}, before)
        stage = self.scratch / "stage"
        done = install("--libdir", "lib/triplet", "/opt/pack", DESTDIR=str(stage) + "/")
        self.assertEqual(done.returncode, 0, done.stderr)
        wanted = sorted(re.sub("^lib/", "lib/triplet/", name) for name in self.expected_files())
        self.assertEqual(files_below(stage / "opt/pack"), wanted)
        self.assertIn("prefix=/opt/pack\n", (stage / "opt/pack/lib/triplet/pkgconfig/hakmem.pc").read_text())
        config = (stage / "opt/pack/lib/triplet/cmake/hakmem/hakmem-config.cmake").read_text()
        self.assertIn('"${CMAKE_CURRENT_LIST_DIR}/../../../.."', config)
        self.assertEqual(os.listdir(stage / "opt"), ["pack"])

    def test_a_relative_prefix_is_where_the_user_is(self):
        place = self.scratch / "place"
        place.mkdir()
        self.assertEqual(install("here", BUILD_WORKING_DIRECTORY=str(place)).returncode, 0)
        self.assertEqual(files_below(place / "here"), self.expected_files())
        self.assertIn("prefix=%s/here\n" % place, (place / "here/lib/pkgconfig/hakmem.pc").read_text())

    def test_the_line_for_ldconfig(self):
        place = self.scratch / "ldconfig"
        self.assertEqual(install(place).stderr, "install: as root, ldconfig %s/lib tells programs where the library is\n" % place)
        self.assertEqual(install("/p", DESTDIR=str(place)).stderr, "")
        self.assertEqual(install("--uninstall", place).stderr,
                         "install: as root, ldconfig %s/lib tells programs that it is gone\n" % place)

    def test_uninstall(self):
        place = self.scratch / "removed"
        arguments = ["--libdir", "lib/triplet", place]
        install(*arguments, check=True)
        # What is not hakmem's stays.
        others = ["bin/other", "include/other.h", "lib/triplet/libother.so", "share/doc/hakmem/notes"]
        for name in others:
            (place / name).write_text("other")
        (place / "lib/triplet/libhakmem.a").unlink()
        done = install("--uninstall", *arguments)
        self.assertEqual(done.returncode, 0, done)
        wanted = sorted(re.sub("^lib/", "lib/triplet/", name) for name in self.expected_files())
        wanted.remove("lib/triplet/libhakmem.a")
        self.assertEqual(sorted(done.stdout.splitlines()), [str(place / name) for name in wanted])
        self.assertEqual(files_below(place), others)
        folders = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_dir())
        self.assertEqual([folder for folder in folders if "hakmem" in folder], ["share/doc/hakmem"])
        done = install("--uninstall", *arguments)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (1, "", "install: nothing of this version is in %s\n" % place))

    def test_uninstall_leaves_another_version(self):
        place = self.scratch / "other_version"
        install(place, check=True)
        link = place / "lib/libhakmem.so.0"
        link.unlink()
        link.symlink_to("libhakmem.so.0.9.9")
        before = files_below(place)
        done = install("--uninstall", place)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (1, "", "install: %s is of another version; nothing is removed\n" % link))
        self.assertEqual(files_below(place), before)

    def test_man_pages_name_everything(self):
        header = (self.prefix / "include/hakmem/hakmem.h").read_text()
        names = set(re.findall(r"^HAK_EXPORT [^;]*?\b(hak_\w+)(?:\(|;)", header, re.M))
        self.assertGreater(len(names), 15)
        page = (self.prefix / "share/man/man3/hakmem.3").read_text()
        self.assertEqual(names - set(re.findall(r"hak_\w+", page)), set())
        self.assertEqual(page.count("\n.B HAKMEM_"), (CONSUMER / "../../docs/ENV.md").read_text().count("\n| `HAKMEM_"))
        self.assertIn('"hakmem %s"' % self.version, page)

    # ---- Failures ----------------------------------------------------------------------------------

    def test_usage(self):
        for arguments in [], ["a", "b"], ["-x"], ["--libdir"], ["--libdir", "lib"], [""], ["--uninstall"], ["a", "--uninstall"]:
            done = install(*arguments)
            self.assertEqual((done.returncode, done.stdout), (2, ""), arguments)
            self.assertEqual(done.stderr, "usage: bazel run //:install -- [--uninstall] [--libdir DIR] PREFIX\n")

    def test_what_cannot_be_is_said(self):
        file = self.scratch / "file"
        file.write_text("kept")
        in_the_way = self.scratch / "in_the_way/lib/libhakmem.a"
        in_the_way.mkdir(parents=True)
        for reason, arguments, variables in (
                ("File exists", [file / "below"], {}),
                ("libhakmem.a is a folder", [self.scratch / "in_the_way"], {}),
                ("white space", [self.scratch / "a b"], {}),
                ("not an absolute path", ["/x"], {"DESTDIR": "relative"}),
                ("not a folder below PREFIX", ["--libdir", "../lib", self.scratch / "x"], {})):
            done = install(*arguments, **variables)
            self.assertEqual(done.returncode, 1, done)
            self.assertRegex(done.stderr, r"^install: .*%s.*\n$" % reason)
        self.assertEqual(file.read_text(), "kept")
        self.assertTrue(in_the_way.is_dir())

    # ---- Building with it --------------------------------------------------------------------------

    def pkg_config(self, *arguments):
        return self.ok("pkg-config", *arguments, PKG_CONFIG_PATH=str(self.prefix / "lib/pkgconfig")).split()

    def test_pkg_config(self):
        self.assertEqual(self.pkg_config("--modversion", "hakmem"), [self.version])
        for compiler, source in (("gcc", "consumer.c"), ("g++", "consumer.cc")):
            source = CONSUMER / source
            program = self.scratch / ("program_" + compiler)
            flags = self.pkg_config("--cflags", "--libs", "hakmem")
            self.ok(compiler, "-O1", source, "-o", program, *flags, "-pthread")
            self.assertIn("[libhakmem.so.0]", self.ok("readelf", "-dW", program))
            self.serves(program, LD_LIBRARY_PATH=str(self.prefix / "lib"))
            flags = self.pkg_config("--cflags", "--libs", "hakmem-static")
            self.ok(compiler, "-O1", source, "-o", program, *flags)
            dynamic = self.ok("readelf", "-dW", program)
            self.assertNotIn("libhakmem", dynamic)
            self.assertIn("(PREINIT_ARRAY)", dynamic)
            self.serves(program)
            flags = self.pkg_config("--cflags", "--static", "--libs", "hakmem")
            self.ok(compiler, "-O1", "-static", source, "-o", program, *flags)
            self.assertNotIn("INTERP", self.ok("readelf", "-lW", program))
            self.serves(program)

    def test_cmake(self):
        build = self.scratch / "build"
        self.ok("cmake", "-S", CONSUMER, "-B", build, "-DCMAKE_PREFIX_PATH=%s" % self.prefix)
        self.ok("cmake", "--build", build)
        for language in "c", "cc":
            for link in "shared", "archive", "static":
                program = build / ("%s_%s" % (link, language))
                self.serves(program)
                dynamic = self.ok("readelf", "-dW", program)
                self.assertEqual("[libhakmem.so.0]" in dynamic, link == "shared")
                self.assertEqual("(PREINIT_ARRAY)" in dynamic, link == "archive")
            self.assertTrue((build / ("plugin_%s.so" % language)).exists())

    def test_cmake_versions(self):
        major, minor, patch = map(int, self.version.split("."))
        for wanted, found in (("", True), ("%d.%d" % (major, minor), True), (self.version + " EXACT", True),
                              ("%d.%d" % (major, minor + 1), False), ("%d" % (major + 1), False),
                              ("0.0.9", False), ("%d.%d.%d" % (major, minor, patch + 1), False)):
            folder = self.scratch / ("version " + wanted)
            folder.mkdir()
            (folder / "CMakeLists.txt").write_text(
                "cmake_minimum_required(VERSION 3.13)\nproject(x NONE)\nfind_package(hakmem %s)\n"
                'message("found: ${hakmem_FOUND}")\n' % wanted)
            done = run("cmake", "-S", folder, "-B", folder / "b", "-DCMAKE_PREFIX_PATH=%s" % self.prefix)
            self.assertIn("found: %d\n" % found, done.stderr, wanted)

    def test_hakmem_run(self):
        done = run(self.prefix / "bin/hakmem-run", "HAKMEM_SHOW_CONFIG=1", "true")
        self.assertEqual(done.returncode, 0)
        self.assertIn("hakmem: HAKMEM_PROFILE=balanced (default)\n", done.stderr)

    def test_hakmem_prof(self):
        profile = self.scratch / "empty.pb"
        # One type of the texts 1 and 2, and the texts.
        profile.write_bytes(b"\x0a\x04\x08\x01\x10\x02\x32\x00\x32\x05space\x32\x05bytes")
        self.assertIn("space: 0 B\n", self.ok(self.prefix / "bin/hakmem-prof", profile))
        self.assertIn("<title>empty.pb</title>", self.ok(self.prefix / "bin/hakmem-prof", "--html", "-", profile))
        done = run(self.prefix / "bin/hakmem-prof", __file__)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"\Ahakmem-prof: .* no profile[^\n]*\n\Z")
        self.assertEqual(files_below(self.prefix), self.expected_files(), "it leaves no files behind")

    def test_hakmem_top(self):
        self.assertIn("usage: hakmem-top", self.ok(self.prefix / "bin/hakmem-top", "--help"))
        # A program that exists, by hakmem-run.
        program = subprocess.Popen([self.prefix / "bin/hakmem-run", "HAKMEM_STATS_PAGE=1", "sleep", "1000"])
        try:
            # Until its page is there. A process of the same number that was killed earlier may have left one.
            while True:
                self.assertIsNone(program.poll())
                done = run(self.prefix / "bin/hakmem-top", "--once", "--json", str(program.pid))
                if done.returncode == 0:
                    break
                self.assertRegex(done.stderr, "has no figures|of an earlier process|no figures yet|cut short|none of hakmem's")
            self.assertIn('"name": "sleep"', done.stdout)
        finally:
            program.kill()
            program.wait()
            os.unlink("/dev/shm/hakmem-stats-%d" % program.pid)
        self.assertEqual(files_below(self.prefix), self.expected_files(), "it leaves no files behind")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
