#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Libraries that a program loads with RTLD_DEEPBIND share its malloc, if that is libhakmem.so.

usage: deepbind_test.py --program=FILE... --library=LIBHAKMEM_PROFILE.SO...

deepbind_host.c says what each case does. Every case runs in a folder of its own:
  host  libhakmem.so  plugins/libdeepbind_plugin.so  plugins/inner/libdeepbind_inner.so
where only the host's RUNPATH leads to `plugins`, and only the plugin's to `inner`.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

TIMEOUT = 60
PLUGIN = "libdeepbind_plugin.so"
OURS, LIBC = "libhakmem.so\n", "libc.so.6\n"
CRASHED = "a crash"

# Host, case, plugin, what it prints before "good".
SHARED = [
    ("host", "use", PLUGIN, ""),
    ("host", "bound", PLUGIN, OURS),
    ("host", "bound", "{folder}/plugins/" + PLUGIN, OURS),
    ("host", "bound", "$ORIGIN/plugins/" + PLUGIN, OURS),
    ("host", "inner", PLUGIN, OURS),
    ("host", "preinit", PLUGIN, OURS),
    ("host", "names", "", ""),
    # dlmopen stays as it is.
    ("host", "space", PLUGIN, LIBC),
    # Its own address of malloc is everybody's, but the calls come to hakmem.
    ("fixed_host", "use", PLUGIN, ""),
    ("fixed_host", "bound", PLUGIN, "host\n"),
    # The program's malloc is another one, and no business of ours.
    ("own_host", "bound", PLUGIN, LIBC),
]


class Folder:
    """A host and its libraries."""

    def __init__(self, root, programs, library, host):
        self.path = root / "folder"
        shutil.rmtree(self.path, ignore_errors=True)
        (self.path / "plugins" / "inner").mkdir(parents=True)
        for source, target in ((programs["deepbind_" + host], "host"), (library, "libhakmem.so"),
                               (programs["libdeepbind_early.so"], "libdeepbind_early.so"),
                               (programs[PLUGIN], "plugins/" + PLUGIN),
                               (programs[PLUGIN], "plugins/inner/libdeepbind_inner.so")):
            shutil.copyfile(source, self.path / target)
        (self.path / "host").chmod(0o755)

    def run(self, case, plugin, preload=("libhakmem.so",), **variables):
        """(what it prints, or CRASHED, and its stderr)"""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HAKMEM_", "LD_"))}
        environment["LD_PRELOAD"] = ":".join(str(self.path / name) for name in preload)
        environment.update(variables)
        done = subprocess.run([str(self.path / "host"), case, plugin.replace("{folder}", str(self.path))], env=environment,
                              check=False, timeout=TIMEOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True)
        if done.returncode < 0:
            return CRASHED, done.stderr
        return done.stdout if done.returncode == 0 else "status %d: %s" % (done.returncode, done.stdout), done.stderr


class Test:
    """Counts what is run."""

    def __init__(self, root, programs):
        self.root, self.programs = root, programs
        self.runs = self.failures = 0

    def expect(self, library, host, case, plugin, expected, **how):
        """One run, and what it must print. Returns its stderr."""
        printed, errors = Folder(self.root, self.programs, library, host).run(case, plugin, **how)
        self.runs += 1
        if printed != (expected if expected == CRASHED else expected + "good\n"):
            self.failures += 1
            print("FAILED %s %s %s %s: %r, expected %r\n%s" % (os.path.basename(library), host, case, how, printed, expected,
                                                              errors))
        return errors

    def expect_row(self, library, host, marked, **how):
        """The row of HAKMEM_SHOW_CONFIG says whether the setting has an effect."""
        errors = self.expect(library, host, "names", "", "", HAKMEM_SHOW_CONFIG="1", **how)
        rows = [line for line in errors.splitlines() if line.startswith("hakmem: HAKMEM_DROP_DEEPBIND=1 (")]
        if len(rows) != 1 or ("; no effect" in rows[0]) != marked:
            self.failures += 1
            print("FAILED %s %s: %s" % (os.path.basename(library), host, rows or errors))

    def run(self, library):
        fast = "_fast" in os.path.basename(library)
        for host, case, plugin, expected in SHARED:
            self.expect(library, host, case, plugin, expected)
        # Without the wrapper these cases fail: with the setting off, and on the C library they do not need it. FAST
        # does not read the environment.
        off = {"HAKMEM_DROP_DEEPBIND": "0"}
        self.expect(library, "host", "bound", PLUGIN, OURS if fast else LIBC, **off)
        self.expect(library, "host", "use", PLUGIN, "" if fast else CRASHED, **off)
        self.expect(library, "host", "use", PLUGIN, "", preload=())
        self.expect(library, "host", "bound", PLUGIN, LIBC, preload=())
        not_now = "hak_config_set: Operation not permitted\n" + OURS
        self.expect(library, "host", "change", PLUGIN, 2 * not_now if fast else LIBC + OURS)
        # Before hakmem's own start.
        self.expect(library, "host", "early", "{folder}/plugins/" + PLUGIN, OURS,
                    preload=("libhakmem.so", "libdeepbind_early.so"))
        self.expect(library, "linked_host", "use", PLUGIN, "", preload=(), LD_LIBRARY_PATH=str(self.root / "folder"))
        self.expect_row(library, "host", False)


def main():
    words = [word.partition("=") for word in sys.argv[1:]]
    programs = {os.path.basename(path): os.path.abspath(path) for name, _, path in words if name == "--program"}
    libraries = [os.path.abspath(path) for name, _, path in words if name == "--library"]
    if not programs or not libraries:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="deepbind_test.") as folder:
        test = Test(pathlib.Path(folder).resolve(), programs)
        for library in libraries:
            test.run(library)
        # The archive leaves dlopen alone.
        test.expect(libraries[0], "archive_host", "bound", PLUGIN, LIBC, preload=())
        test.expect_row(libraries[0], "archive_host", True, preload=())
    print("%d runs, %d failed" % (test.runs, test.failures))
    return 1 if test.failures else 0


if __name__ == "__main__":
    sys.exit(main())
