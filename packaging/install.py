#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs libraries, header, hakmem-run, hakmem-prof, man pages, and what pkg-config and CMake need.

usage: bazel run //:install -- [--uninstall] [--libdir DIR] PREFIX

DIR is below PREFIX: lib when it is not given. With DESTDIR in the environment, as packagers use it, everything goes
below that folder, while the files' contents still name PREFIX. Folders are made as needed, files replaced.

--uninstall removes the files of this version, and the folders that only hakmem has."""

import os
import sys

import tree


def usage():
    print("\n".join(__doc__.splitlines()[2:3]), file=sys.stderr)
    sys.exit(2)


def main(arguments):
    sources = {}
    while arguments and arguments[0].startswith("--source="):
        path = arguments.pop(0).split("=", 1)[1]
        sources[os.path.basename(path)] = path
    uninstall = arguments[:1] == ["--uninstall"]
    arguments = arguments[1:] if uninstall else arguments
    libdir = "lib"
    if arguments and arguments[0] == "--libdir":
        if len(arguments) < 2:
            usage()
        libdir = arguments[1].strip("/")
        arguments = arguments[2:]
    if len(arguments) != 1 or arguments[0].startswith("-") or not arguments[0]:
        usage()
    if not libdir or any(part in (".", "..", "") for part in libdir.split("/")):
        raise tree.TreeError("--libdir is not a folder below PREFIX")
    # `bazel run` starts the program in another folder, and sets a variable to the user's.
    prefix = os.path.normpath(os.path.join(os.environ.get("BUILD_WORKING_DIRECTORY", os.getcwd()), arguments[0]))
    destination = os.environ.get("DESTDIR", "")
    if destination and not os.path.isabs(destination):
        raise tree.TreeError("DESTDIR is not an absolute path: " + destination)
    if any(character.isspace() for character in prefix + libdir):
        raise tree.TreeError("pkg-config cannot name a folder with white space: " + prefix)
    root = destination.rstrip("/") + prefix
    files = tree.tree(sources, prefix, libdir)
    if uninstall:
        files = tree.remove(files, root)
        if not files:
            raise tree.TreeError("nothing of this version is in " + root)
    else:
        tree.write(files, root)
    for name in files:
        print(os.path.join(root, name))
    if not destination:
        # The dynamic linker reads a folder's libraries from a cache.
        print("install: as root, ldconfig %s tells programs %s" % (
            os.path.join(root, libdir), "that it is gone" if uninstall else "where the library is"), file=sys.stderr)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (tree.TreeError, OSError) as error:
        print("install: %s" % error, file=sys.stderr)
        sys.exit(1)
