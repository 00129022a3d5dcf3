#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles the fuzz targets with the compiler and flags of the environment, and puts them into $OUT.

usage: build_targets.py [--profile PROFILE] [--objects FILE] [--keep-going] [TARGET]...

Reads CC, CXX, CFLAGS, CXXFLAGS, LIB_FUZZING_ENGINE, OUT and WORK; build.sh checks them. Without a TARGET it builds all.
Each gets NAME, NAME_seed_corpus.zip, NAME.options, and NAME.dict if there is a dictionary. --objects writes the paths
of all compiled objects of the allocator into FILE, also of those that no target contains: coverage.sh counts them. If a
file does not compile, only the targets that contain it fail. With --keep-going these are reported, and it is no failure
as long as one target was built."""
import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import zipfile

from build_files import BuildFileError
from fuzz_targets import ROOT, compiled, fuzz_targets, open_workspace

# Checks that the machine offers nothing to a target but the C library: it runs in an image without a C++ runtime.
STATIC_RUNTIME = ["-static-libstdc++", "-static-libgcc"]

# The models that the allocator is compared with: their branches are no progress of a fuzzer.
MODELS = "allocator/test/"

# The earliest time that a zip archive knows: the same files give the same archive.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


class BuildError(Exception):
    pass


def run(command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise BuildError("%s\nfailed: %s" % (done.stdout.decode(errors="replace").rstrip(), shlex.join(command)))


def attempt(pool, action, things):
    """{thing: BuildError} for each thing for which the action failed."""
    jobs = {thing: pool.submit(action, thing) for thing in things}
    errors = {thing: job.exception() for thing, job in jobs.items()}
    for error in errors.values():
        if error is not None and not isinstance(error, BuildError):
            raise error
    return {thing: error for thing, error in errors.items() if error is not None}


class Builder:
    def __init__(self, environment):
        self.cc = shlex.split(environment["CC"])
        self.cxx = shlex.split(environment["CXX"])
        self.cflags = shlex.split(environment["CFLAGS"])
        self.cxxflags = shlex.split(environment["CXXFLAGS"])
        self.engine = shlex.split(environment["LIB_FUZZING_ENGINE"])
        self.out = pathlib.Path(environment["OUT"]).resolve()
        self.objects = pathlib.Path(environment["WORK"]).resolve() / "objects"
        self.out.mkdir(parents=True, exist_ok=True)
        self.objects.mkdir(parents=True, exist_ok=True)

    def object_of(self, source):
        digest = hashlib.sha256(repr(source.key()).encode()).hexdigest()[:12]
        return self.objects / ("%s-%s.o" % (source.path.replace("/", "_"), digest))

    def compile(self, source):
        plain_c = source.path.endswith(".c")
        flags = self.cflags if plain_c else self.cxxflags
        options = [] if any(flag.startswith("-O") for flag in flags) else ["-O2"]
        if source.path.startswith(MODELS) and "-fsanitize=fuzzer-no-link" in flags:
            options.append("-fno-sanitize=fuzzer-no-link")
        run((self.cc if plain_c else self.cxx) + flags + options + list(source.options) +
            ["-c", source.path, "-o", str(self.object_of(source))])

    def link(self, target):
        objects = [str(path) for path in dict.fromkeys(map(self.object_of, target.sources))]
        run(self.cxx + self.cxxflags + objects + target.link_options + STATIC_RUNTIME + self.engine +
            ["-o", str(self.out / target.name)])

    def put_beside(self, target):
        with zipfile.ZipFile(self.out / (target.name + "_seed_corpus.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(target.corpus):
                archive.writestr(zipfile.ZipInfo(os.path.basename(path), ZIP_TIME), (ROOT / path).read_bytes(),
                                 zipfile.ZIP_DEFLATED)
        if target.dictionary:
            (self.out / (target.name + ".dict")).write_bytes((ROOT / target.dictionary).read_bytes())
        if target.options:
            options = (ROOT / target.options).read_text(encoding="utf-8")
        else:
            options = "[libfuzzer]\nmax_len = %d\n" % (target.max_len or 4096)
        (self.out / (target.name + ".options")).write_text(options, encoding="utf-8")


def check(target):
    if not re.fullmatch(r"[A-Za-z0-9_-]+", target.name):
        raise BuildError("%s: not a name that OSS-Fuzz takes" % target.name)
    if not target.corpus:
        raise BuildError("%s: no seed corpus in fuzz/corpus/%s" % (target.name, target.name))


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n")[0])
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--objects")
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("targets", nargs="*")
    arguments = parser.parse_args()
    try:
        workspace = open_workspace(profile=arguments.profile)
        known = workspace.target("//configs:profile").attributes["values"]
        if arguments.profile not in known:
            raise BuildError("no profile %s; there are: %s" % (arguments.profile, " ".join(known)))
        targets = fuzz_targets(workspace)
        for name in arguments.targets:
            if name not in targets:
                raise BuildError("no fuzz target %s; there are: %s" % (name, " ".join(sorted(targets))))
        wanted = [targets[name] for name in sorted(arguments.targets or targets)]
        for target in wanted:
            check(target)
        builder = Builder(os.environ)
        allocator = compiled(workspace, "//allocator:malloc")[0] if arguments.objects else []
        sources = {source.key(): source for target in wanted for source in target.sources}
        sources.update((source.key(), source) for source in allocator)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            broken = {source.key(): error for source, error in attempt(pool, builder.compile, sources.values()).items()}
            failed = {}
            for target in wanted:
                for source in target.sources:
                    if source.key() in broken:
                        failed[target] = broken[source.key()]
            failed.update(attempt(pool, builder.link, [target for target in wanted if target not in failed]))
        built = [target for target in wanted if target not in failed]
        for target in built:
            builder.put_beside(target)
        for error in dict.fromkeys(list(broken.values()) + list(failed.values())):
            print(error, file=sys.stderr)
        for target in failed:
            print("build_targets.py: %s is not built" % target.name, file=sys.stderr)
        # Whoever counts the objects wants all of them.
        if not built or ((broken or failed) and (arguments.objects or not arguments.keep_going)):
            return 2
        if arguments.objects:
            paths = sorted({str(builder.object_of(source)) for source in allocator})
            pathlib.Path(arguments.objects).write_text("\n".join(paths) + "\n", encoding="utf-8")
    except (BuildError, BuildFileError, OSError) as error:
        print("build_targets.py: %s" % error, file=sys.stderr)
        return 2
    print("%d fuzz targets in %s: %s" % (len(built), builder.out, " ".join(target.name for target in built)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
