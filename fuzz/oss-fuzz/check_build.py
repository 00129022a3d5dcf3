#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks a folder of built fuzz targets as OSS-Fuzz does before it accepts a build, and a little more.

usage: check_build.py SANITIZER ARCHITECTURE FOLDER

SANITIZER is address or undefined. The folder must have been moved after the build. Prints `BAD BUILD: TARGET: ...` for
each error. Exit status 1: there are errors; 2: nothing could be checked."""
import configparser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

RUNS = 4
MIN_EDGES = 100

# {sanitizer: {start of a called function's name: (least, most calls)}}, as OSS-Fuzz demands.
CALLS = {
    "address": {"__asan": (1000, None), "__ubsan": (0, 200), "__msan": (0, 3), "__dfsan": (0, 0)},
    "undefined": {"__ubsan": (168, None), "__asan": (0, 0), "__msan": (0, 3), "__dfsan": (0, 0)},
}
# The runtimes of new compilers make enough of these calls by themselves. Only instrumented code makes the following
# ones; the smallest target has more of them than MIN_OWN_CALLS.
OWN_CALLS = {"address": ("__asan_report_", "__asan_load", "__asan_store"), "undefined": ("__ubsan_handle_",)}
MIN_OWN_CALLS = 50

CALL = {"x86_64": r"\tcallq? +[0-9a-f]+ <(__[a-z_]+)", "aarch64": r"\tbl\t[0-9a-f]+ <(__[a-z_]+)"}
ELF_MACHINE = {"x86_64": 62, "aarch64": 183}

# The libraries of the image in which targets run.
LIBRARIES = {"libc", "libm", "libresolv", "libpthread", "libdl", "librt", "ld-linux-x86-64", "ld-linux-aarch64",
             "linux-vdso"}

# What libFuzzer itself prints on stderr when there is no error.
ENGINE_LINE = re.compile(rb"^(INFO: |#\d+\t|Done \d+ runs|Dictionary: \d+ entries|\s*$|\S+: Running \d+ inputs|"
                         rb"###### |# Use|\"|\tNEW_)")

RUN_OPTIONS = ["-rss_limit_mb=2560", "-timeout=25"]

# After so many seconds the whole run hangs; libFuzzer's limit for one input is far below.
HANG_SECONDS = 900


class Target:
    def __init__(self, path, sanitizer, architecture):
        self.path = path
        self.name = path.name
        self.sanitizer = sanitizer
        self.architecture = architecture
        self.bad = []
        self.facts = []

    def beside(self, ending):
        return self.path.with_name(self.name + ending)

    def start(self, arguments):
        """Runs the target in an empty folder; returns (exit status, stdout, stderr)."""
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(os.environ, UBSAN_OPTIONS="silence_unsigned_overflow=1:print_stacktrace=1")
            try:
                done = subprocess.run([str(self.path)] + arguments, cwd=folder, env=environment, check=False,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      timeout=HANG_SECONDS)
            except subprocess.TimeoutExpired:
                return "hangs", b"", b""
            except OSError as error:
                return "does not start: %s" % error.strerror, b"", b""
            left = [name for name in os.listdir(folder) if not name.startswith(("crash-", "leak-", "timeout-", "oom-"))]
            if left:
                self.bad.append("writes files: %s" % " ".join(sorted(left)))
            return done.returncode, done.stdout, done.stderr

    def check(self):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            self.bad.append("the name has other characters than A-Z a-z 0-9 _ -")
        if not os.access(self.path, os.X_OK):
            self.bad.append("is not executable")
            return
        machine = int.from_bytes(self.path.read_bytes()[18:20], "little")
        if machine != ELF_MACHINE[self.architecture]:
            self.bad.append("is not built for %s" % self.architecture)
            return
        self.check_libraries()
        self.check_start()
        self.check_calls()
        self.check_corpus(self.check_options() + self.check_dictionary())

    def check_libraries(self):
        listing = subprocess.run(["ldd", str(self.path)], check=False, stdout=subprocess.PIPE).stdout.decode()
        found = sorted({os.path.basename(line.split()[0]).split(".so")[0] for line in listing.splitlines() if ".so" in line})
        self.facts.append("libraries: " + " ".join(found))
        for library in found:
            if library not in LIBRARIES:
                self.bad.append("needs the library %s" % library)

    def check_start(self):
        status, stdout, stderr = self.start(["-seed=1337", "-runs=%d" % RUNS])
        if b"no interesting inputs were found" in stderr:
            self.bad.append("has no coverage instrumentation")
            return
        if status != 0 or b"Done %d runs" % RUNS not in stderr:
            self.bad.append("crashes or exits at its start (%s):\n%s" % (status, shown(stderr)))
            return
        edges = re.search(rb"INFO: Loaded \d+ module.*\(.*(?:counters|guards)\):\s+(\d+)", stderr)
        count = int(edges.group(1)) if edges else 0
        self.facts.append("%d edges" % count)
        if count < MIN_EDGES:
            self.bad.append("has %d edges instrumented for coverage, fewer than %d" % (count, MIN_EDGES))
        self.check_silence(stdout, stderr)

    def check_silence(self, stdout, stderr):
        strange = [line for line in stderr.splitlines() if not ENGINE_LINE.match(line)]
        if stdout or strange:
            self.bad.append("prints:\n%s" % shown(stdout + b"\n".join(strange)))

    def check_calls(self):
        done = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", str(self.path)], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            self.bad.append("objdump cannot read it:\n%s" % shown(done.stderr))
            return
        names = re.findall(CALL[self.architecture], done.stdout.decode(errors="replace"))
        own = sum(name.startswith(OWN_CALLS[self.sanitizer]) for name in names)
        if own < MIN_OWN_CALLS:
            self.bad.append("has %d calls of %s..., fewer than %d: not compiled with the sanitizer" %
                            (own, OWN_CALLS[self.sanitizer][0], MIN_OWN_CALLS))
        for prefix, (least, most) in CALLS[self.sanitizer].items():
            count = sum(name.startswith(prefix) for name in names)
            if least:
                self.facts.append("%d calls of %s" % (count, prefix))
            if count < least:
                self.bad.append("has %d calls of %s, fewer than %d: not compiled with the sanitizer" % (count, prefix, least))
            if most is not None and count > most:
                self.bad.append("has %d calls of %s, more than %d: compiled with another sanitizer" % (count, prefix, most))

    def check_options(self):
        """The options in NAME.options, as arguments."""
        path = self.beside(".options")
        if not path.is_file():
            self.bad.append("has no %s" % path.name)
            return []
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except (configparser.Error, UnicodeDecodeError) as error:
            self.bad.append("%s cannot be read: %s" % (path.name, error))
            return []
        if not parser.has_section("libfuzzer"):
            self.bad.append("%s has no section [libfuzzer]" % path.name)
            return []
        return ["-%s=%s" % option for option in parser.items("libfuzzer") if option[0] != "dict"]

    def check_dictionary(self):
        path = self.beside(".dict")
        return ["-dict=%s" % path] if path.is_file() else []

    def check_corpus(self, options):
        path = self.beside("_seed_corpus.zip")
        if not path.is_file():
            self.bad.append("has no %s" % path.name)
            return
        with tempfile.TemporaryDirectory() as folder:
            try:
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(folder)
            except (zipfile.BadZipFile, OSError) as error:
                self.bad.append("%s cannot be unpacked: %s" % (path.name, error))
                return
            inputs = sum(entry.is_file() for entry in pathlib.Path(folder).rglob("*"))
            self.facts.append("%d inputs" % inputs)
            if not inputs:
                self.bad.append("%s is empty" % path.name)
                return
            status, stdout, stderr = self.start(RUN_OPTIONS + options + ["-runs=0", folder])
        if b"ParseDictionaryFile" in stderr:
            self.bad.append("%s cannot be read:\n%s" % (self.name + ".dict", shown(stderr)))
        elif b"unrecognized flag" in stderr:
            self.bad.append("%s has an option that libFuzzer does not know:\n%s" % (self.name + ".options", shown(stderr)))
        elif status != 0:
            self.bad.append("does not get through its seed corpus (%s):\n%s" % (status, shown(stderr)))
        else:
            self.check_silence(stdout, stderr)


def shown(output):
    """The last lines of what a program printed, indented."""
    lines = output.decode(errors="replace").splitlines()[-25:]
    return "\n".join("    " + line for line in lines)


def is_target(path):
    if path.is_symlink() or not path.is_file():
        return False
    content = path.read_bytes()
    return content.startswith(b"\x7fELF") and b"LLVMFuzzerTestOneInput" in content


def strays(folder, names):
    """Reports the files that belong to no target."""
    for path in sorted(folder.iterdir()):
        for ending in ("_seed_corpus.zip", ".options", ".dict"):
            if path.name.endswith(ending) and path.name[:-len(ending)] not in names:
                yield "%s belongs to no fuzz target" % path.name


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in CALLS or sys.argv[2] not in CALL:
        print(__doc__, file=sys.stderr)
        return 2
    sanitizer, architecture, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]).resolve()
    if not folder.is_dir():
        print("check_build.py: %s is not a folder" % folder, file=sys.stderr)
        return 2
    for program in ("objdump", "ldd"):
        if not shutil.which(program):
            print("check_build.py: no program %s" % program, file=sys.stderr)
            return 2
    targets = [Target(path, sanitizer, architecture) for path in sorted(folder.iterdir()) if is_target(path)]
    bad = 0
    for target in targets:
        target.check()
        for message in target.bad:
            print("BAD BUILD: %s: %s" % (target.name, message))
        bad += len(target.bad)
        print("%s %s (%s)" % ("FAILED" if target.bad else "PASSED", target.name, "; ".join(target.facts)))
    for message in strays(folder, {target.name for target in targets}):
        print("BAD BUILD: %s" % message)
        bad += 1
    if not targets:
        print("BAD BUILD: %s: no fuzz target in it" % folder)
        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
