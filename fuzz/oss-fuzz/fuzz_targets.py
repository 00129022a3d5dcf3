#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The sources and options of the fuzz targets, read from the BUILD files without Bazel.

usage: fuzz_targets.py                    the names of all targets, one a line
       fuzz_targets.py --profiles         the build profiles, one a line
       fuzz_targets.py --files TARGET     the source files and headers of one, one a line
"""
import pathlib
import sys

from build_files import BuildFileError, Workspace

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SOURCES = (".c", ".cc", ".cpp")


class Source:
    """A file to compile: its path from the root, and its options."""

    def __init__(self, path, options):
        self.path = path
        self.options = tuple(options)

    def key(self):
        return (self.path, self.options)


class FuzzTarget:
    """A fuzzing program and the files beside it; paths are relative to the root."""

    def __init__(self, name):
        self.name = name
        self.sources = []
        self.files = []
        self.link_options = []
        self.corpus = []
        self.dictionary = None
        self.options = None
        self.max_len = None


def open_workspace(root=ROOT, profile="standard"):
    return Workspace(root, {"//fuzz:engine": "external", "//configs:profile": profile, "//configs:werror": "False"})


def compiled(workspace, label):
    """([Source], [path of every source and header], [linker option]) of everything from which `label` is built."""
    targets = workspace.closure(label)
    includes = ["."]
    defines = []
    link_options = []
    for target in targets:
        folder = pathlib.PurePosixPath(target.package)
        includes += [(folder / path).as_posix() for path in workspace.resolve(target, "includes")]
        defines += workspace.resolve(target, "defines")
        # $(LIB_FUZZING_ENGINE) is of those who link.
        link_options += [option for option in workspace.resolve(target, "linkopts") if "$(" not in option]
    sources = []
    files = []
    for target in targets:
        # Warnings are for those who change the code; the compiler here is not theirs.
        options = [option for option in workspace.resolve(target, "copts") if not option.startswith("-W")]
        options += ["-D" + define for define in defines + workspace.resolve(target, "local_defines")]
        options += ["-I" + path for path in includes]
        for attribute in ("srcs", "hdrs", "textual_hdrs"):
            for item in workspace.resolve(target, attribute):
                label = workspace.absolute(item, target.package)
                if workspace.target(label) is not None:
                    continue  # A header that Bazel makes; the sources do without.
                path = label[2:].replace(":", "/")
                files.append(path)
                if attribute == "srcs" and path.endswith(SOURCES):
                    sources.append(Source(path, options))
    return sources, sorted(set(files)), sorted(set(link_options))


def _files_of(workspace, label):
    target = workspace.target(label)
    return [(pathlib.PurePosixPath(target.package) / path).as_posix() for path in workspace.resolve(target, "srcs")]


def fuzz_targets(workspace):
    """{name: FuzzTarget} of all programs in //fuzz with the tag fuzz-target."""
    package = workspace.package("fuzz")
    found = {}
    for program in list(package.values()):
        if "fuzz-target" not in workspace.resolve(program, "tags") or not program.rule.startswith("cc_"):
            continue
        name = program.name[:-len("_bin")] if program.name.endswith("_bin") else program.name
        target = FuzzTarget(name)
        target.sources, target.files, target.link_options = compiled(workspace, program.label)
        target.corpus = _files_of(workspace, "//fuzz:%s_corpus" % name)
        if name + "_dict" in package:
            target.dictionary = _files_of(workspace, "//fuzz:%s_dict" % name)[0]
        archive = package.get(name + "_oss_fuzz")
        for path in workspace.resolve(archive, "srcs") if archive else []:
            if path.endswith(".options"):
                target.options = "fuzz/" + path.lstrip(":")
        for argument in workspace.resolve(package[name], "args") if name in package else []:
            if argument.startswith("-max_len="):
                target.max_len = int(argument.partition("=")[2])
        found[name] = target
    if not found:
        raise BuildFileError("fuzz/BUILD.bazel: no program with the tag fuzz-target")
    return found


def main():
    arguments = sys.argv[1:]
    if arguments not in ([], ["--profiles"]) and (len(arguments) != 2 or arguments[0] != "--files"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        workspace = open_workspace()
        if arguments == ["--profiles"]:
            print("\n".join(workspace.target("//configs:profile").attributes["values"]))
            return 0
        targets = fuzz_targets(workspace)
    except BuildFileError as error:
        print("fuzz_targets.py: %s" % error, file=sys.stderr)
        return 2
    if not arguments:
        print("\n".join(sorted(targets)))
        return 0
    if arguments[1] not in targets:
        print("fuzz_targets.py: no fuzz target %s; there are: %s" % (arguments[1], " ".join(sorted(targets))),
              file=sys.stderr)
        return 2
    print("\n".join(targets[arguments[1]].files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
