#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the Debian package: library, archive, header, hakmem-run, hakmem-prof, hakmem-top and man pages in
one.

usage: make_deb.py --architecture ARCH --multiarch TRIPLET --strip PROGRAM OUTPUT SOURCE...

The same sources make the same package, byte for byte: the times are SOURCE_DATE_EPOCH (by default that of the package's
latest change), the user is root, and the compressors use one thread.

Who publishes a package says so in the environment: DEBFULLNAME and DEBEMAIL, as other tools of Debian read them, and
DEB_HOMEPAGE, where the sources are. Without an address the package names the archive and the tag it was built from."""

import argparse
import email.utils
import gzip
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import tree

# The date of the latest change of the package, for its changelog: 2026-01-01.
CHANGED = 1767225600
MAINTAINER = ("hakmem developers", "maintainer@example.org")

CONTROL = """\
Package: hakmem
Version: {version}
Architecture: {architecture}
Multi-Arch: no
Maintainer: {maintainer}
Installed-Size: {size}
Depends: libc6 (>= {libc})
Recommends: python3
Suggests: binutils
Section: libs
Priority: optional
{homepage}Description: general-purpose malloc
 A memory allocator in place of the C library's: for programs that are linked
 with it, and by hakmem-run for programs that exist. It is fast, gives memory
 back to the system, and notices double frees and other misuse.
 .
 This package holds the shared library, what is needed to build with it,
 hakmem-run, and two tools that need Python: hakmem-prof, which shows heap
 profiles, and hakmem-top, which shows the memory of a running program.
"""

CHANGELOG = """\
hakmem ({version}) unstable; urgency=medium

  * This version of the sources.

 -- {maintainer}  {date}
"""

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: hakmem
Source: {source}

Files: *
Copyright: 2026 the hakmem developers
License: Apache-2.0
 On Debian systems the full text of the Apache License, Version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
"""


def packed(content):
    """Compressed as by gzip -9n: without a name or a time."""
    return gzip.compress(content, 9, mtime=0)


def libc_version(paths):
    """The oldest version of the C library that has all the symbols that the files use."""
    versions = {(2, 0)}
    for path in paths:
        listing = subprocess.run(["readelf", "-VW", path], check=True, stdout=subprocess.PIPE, universal_newlines=True)
        versions |= {tuple(map(int, text.split("."))) for text in re.findall(r"GLIBC_(2(?:\.\d+)+)", listing.stdout)}
    return ".".join(map(str, max(versions)))


def publisher(environment):
    """(maintainer, homepage or "") of the environment."""
    maintainer = "%s <%s>" % (environment.get("DEBFULLNAME") or MAINTAINER[0], environment.get("DEBEMAIL") or MAINTAINER[1])
    if not re.fullmatch(r"[^\s<>@][^<>@\n]* <[^\s<>@]+@[^\s<>@]+\.[^\s<>@]+>", maintainer):
        raise tree.TreeError("DEBFULLNAME and DEBEMAIL are no name and address: " + maintainer)
    homepage = environment.get("DEB_HOMEPAGE", "")
    if homepage and not re.fullmatch(r"https?://[^\s/<>]+\.[^\s<>]+", homepage):
        raise tree.TreeError("DEB_HOMEPAGE is no address of a page: " + homepage)
    return maintainer, homepage


def package_files(sources, multiarch, version, date, maintainer, homepage):
    """The files of the package below /, as tree.tree() gives them."""
    libdir = "lib/" + multiarch
    files = {}
    for name, (content, target, mode) in tree.tree(sources, "/usr", libdir).items():
        if name.startswith("share/man/"):
            name, content = name + ".gz", packed(content)
        if name != "share/doc/hakmem/LICENSE":  # Debian has it in /usr/share/common-licenses
            files["usr/" + name] = (content, target, mode)
    changelog = CHANGELOG.format(version=version, maintainer=maintainer, date=email.utils.formatdate(date))
    files["usr/share/doc/hakmem/changelog.gz"] = (packed(changelog.encode()), None, 0o644)
    # What //packaging:release makes of the tag.
    source = homepage or "hakmem-%s.tar.gz, the sources with the git tag v%s" % (version, version)
    files["usr/share/doc/hakmem/copyright"] = (COPYRIGHT.format(source=source).encode(), None, 0o644)
    return files


def control_files(files, architecture, version, libc, maintainer, homepage):
    content = {name: data for name, (data, _, _) in files.items() if data is not None}
    # As counted by dpkg-gencontrol: the size of each file rounded up to KiB, and 1 KiB for each folder and link.
    folders = {str(parent) for name in files for parent in pathlib.PurePath(name).parents} - {"."}
    size = sum((len(data) + 1023) // 1024 for data in content.values()) + len(folders) + len(files) - len(content)
    sums = "".join("%s  %s\n" % (hashlib.md5(content[name]).hexdigest(), name) for name in sorted(content))
    control = CONTROL.format(version=version, architecture=architecture, maintainer=maintainer, size=size, libc=libc,
                             homepage="Homepage: %s\n" % homepage if homepage else "")
    return {
        "control": control,
        "md5sums": sums,
        # The dependency of programs that are built with the library.
        "shlibs": "libhakmem 0 hakmem (>= %s)\n" % version,
        # Adds the library to the dynamic linker's cache.
        "triggers": "activate-noawait ldconfig\n",
    }


def stripped(program, option, source, folder):
    """A copy of the file without debugging information and without the compiler's name."""
    target = os.path.join(folder, os.path.basename(source))
    command = [program, option]
    if source.endswith(".a"):
        command.append("--enable-deterministic-archives")
    else:
        command.append("--remove-section=.comment")
    subprocess.run(command + ["-o", target, source], check=True)
    return target


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].replace("usage: ", ""))
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--multiarch", required=True)
    parser.add_argument("--strip", required=True)
    parser.add_argument("output")
    parser.add_argument("sources", nargs="+")
    options = parser.parse_args()
    epoch = os.environ.get("SOURCE_DATE_EPOCH", str(CHANGED))
    if not epoch.isdigit():
        raise tree.TreeError("SOURCE_DATE_EPOCH is no number of seconds: " + epoch)
    maintainer, homepage = publisher(os.environ)
    with tempfile.TemporaryDirectory(prefix="hakmem-deb.") as scratch:
        sources = {os.path.basename(path): path for path in options.sources}
        binaries = [sources["libhakmem.so.0"], sources["hakmem-run"]]
        libc = libc_version(binaries)
        for name, option in (("libhakmem.so.0", "--strip-unneeded"), ("hakmem-run", "--strip-all"),
                             ("libhakmem.a", "--strip-debug")):
            sources[name] = stripped(options.strip, option, sources[name], scratch)
        version = tree.version_of(pathlib.Path(sources["hakmem.h"]).read_text())[0]
        files = package_files(sources, options.multiarch, version, int(epoch), maintainer, homepage)
        root = pathlib.Path(scratch) / "root"
        root.mkdir()
        root.chmod(0o755)  # whatever the umask is
        tree.write(files, root)
        control = {"DEBIAN/" + name: (text.encode(), None, 0o644)
                   for name, text in control_files(files, options.architecture, version, libc, maintainer, homepage).items()}
        tree.write(control, root)
        # dpkg-deb limits the files' times to SOURCE_DATE_EPOCH; all of these are later.
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(root), options.output],
                       check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, SOURCE_DATE_EPOCH=epoch))


if __name__ == "__main__":
    try:
        main()
    except (tree.TreeError, OSError, subprocess.CalledProcessError) as error:
        print("make_deb: %s" % error, file=sys.stderr)
        sys.exit(1)
