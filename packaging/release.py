#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the archive of a release, and what the Bazel Central Registry needs for it.

usage: bazel run //packaging:release -- [--url URL] [--out FOLDER] [COMMIT]

COMMIT (default: HEAD) decides all: nothing that is not committed goes into the archive, and the same commit gives the
same bytes on every machine with the same zlib. In FOLDER (default: release) come

  hakmem-X.Y.Z.tar.gz             the sources
  modules/hakmem/X.Y.Z/           MODULE.bazel, presubmit.yml and source.json, for a pull request to the registry

and on standard output the integrity, the section of CHANGELOG.md, and the lines for a WORKSPACE. URL is the folder from
which users get the archive."""

import base64
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import zlib

DEFAULT_URL = "https://example.org/hakmem"
HEADER = "allocator/include/hakmem/hakmem.h"


class ReleaseError(Exception):
    """Why there is no release, for the user."""


def git(root, *arguments):
    done = subprocess.run(["git", "-C", str(root), *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise ReleaseError(done.stderr.decode(errors="replace").strip())
    return done.stdout


def files_of(root, commit):
    """[(path, mode of git, content)] of a commit, sorted."""
    files = []
    for entry in git(root, "ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0"):
        if entry:
            head, path = entry.split(b"\t", 1)
            mode, kind, name = head.decode().split()
            if kind != "blob":
                raise ReleaseError("%s is a %s" % (path.decode(), kind))
            files.append((path.decode(), mode, name))
    # One process for all contents.
    done = subprocess.run(["git", "-C", str(root), "cat-file", "--batch"], check=True, stdout=subprocess.PIPE,
                          input="".join(name + "\n" for _, _, name in files).encode())
    stream = io.BytesIO(done.stdout)
    found = []
    for path, mode, _ in files:
        size = int(stream.readline().split()[2])
        found.append((path, mode, stream.read(size)))
        stream.read(1)
    return sorted(found)


def archive(files, prefix, seconds):
    """A tar.gz of the files. All have the time `seconds`, nobody's user, and one of two modes."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.GNU_FORMAT) as out:
        for path, mode, content in files:
            member = tarfile.TarInfo("%s/%s" % (prefix, path))
            member.mtime = seconds
            member.mode = 0o755 if mode == "100755" else 0o644
            if mode == "120000":
                member.type = tarfile.SYMTYPE
                member.linkname = content.decode()
                out.addfile(member)
            else:
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
    # Python's module gzip writes the time and, by version, other bytes into the head.
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = tar.getvalue()
    packed = packer.compress(data) + packer.flush()
    tail = zlib.crc32(data).to_bytes(4, "little") + (len(data) & 0xFFFFFFFF).to_bytes(4, "little")
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + packed + tail


def version_of(files):
    header = files.get(HEADER, b"").decode()
    numbers = [re.search(r"^#define HAK_VERSION_%s (\d+)$" % part, header, re.M) for part in ("MAJOR", "MINOR", "PATCH")]
    if not all(numbers):
        raise ReleaseError("%s does not tell the version" % HEADER)
    version = ".".join(number.group(1) for number in numbers)
    module = re.search(r'module\(\s*name = "hakmem",[^)]*?version = "([^"]*)"', files.get("MODULE.bazel", b"").decode())
    if module is None or module.group(1) != version:
        raise ReleaseError("MODULE.bazel has version %s, and hakmem.h %s: tools/version.py writes one into all files"
                           % (module.group(1) if module else "none", version))
    return version


def section_of(changelog, version):
    """The text below the heading of the version."""
    sections = re.split(r"^## ", changelog, flags=re.M)[1:]
    texts = {section.split("\n", 1)[0].split()[0]: section.partition("\n")[2].strip() for section in sections}
    if texts.get("Unreleased"):
        raise ReleaseError("CHANGELOG.md has changes under Unreleased: rename it to the version (CONTRIBUTING.md, A release)")
    if not texts.get(version):
        raise ReleaseError("CHANGELOG.md has no section ## %s" % version)
    return texts[version]


def release(root, commit, url, out):
    """Writes the files, and returns what to print."""
    commit = git(root, "rev-parse", "--verify", "--end-of-options", commit + "^{commit}").decode().strip()
    files = files_of(root, commit)
    contents = {path: content for path, _, content in files}
    version = version_of(contents)
    section = section_of(contents.get("CHANGELOG.md", b"").decode(), version)
    prefix = "hakmem-" + version
    data = archive(files, prefix, int(git(root, "log", "-1", "--format=%ct", commit)))
    digest = hashlib.sha256(data)
    integrity = "sha256-" + base64.b64encode(digest.digest()).decode()
    address = "%s/%s.tar.gz" % (url.rstrip("/"), prefix)

    entry = out / "modules" / "hakmem" / version
    entry.mkdir(parents=True, exist_ok=True)
    path = out / (prefix + ".tar.gz")
    path.write_bytes(data)
    (entry / "MODULE.bazel").write_bytes(contents["MODULE.bazel"])
    (entry / "presubmit.yml").write_bytes(contents[".bcr/presubmit.yml"])
    source = json.loads(contents[".bcr/source.template.json"].decode())
    source.update(integrity=integrity, strip_prefix=prefix, url=address)
    (entry / "source.json").write_text(json.dumps(source, indent=4, sort_keys=True) + "\n", encoding="utf-8")
    return """%s
%d files of commit %s
integrity %s

%s

http_archive(
    name = "hakmem",
    integrity = "%s",
    strip_prefix = "%s",
    urls = ["%s"],
)

http_archive(
    name = "hakmem",
    sha256 = "%s",  # for Bazel 4, which has no integrity
    strip_prefix = "%s",
    urls = ["%s"],
)
""" % (path, len(files), commit, integrity, section, integrity, prefix, address, digest.hexdigest(), prefix, address)


def main(arguments):
    options = {"--url": DEFAULT_URL, "--out": "release"}
    while len(arguments) >= 2 and arguments[0] in options:
        options[arguments[0]] = arguments[1]
        arguments = arguments[2:]
    if len(arguments) > 1 or any(argument.startswith("-") or not argument for argument in arguments):
        print(__doc__.splitlines()[2], file=sys.stderr)
        return 2
    # `bazel run` starts the program in another folder, and sets variables to the user's and to the workspace.
    root = pathlib.Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", os.getcwd()))
    out = pathlib.Path(os.environ.get("BUILD_WORKING_DIRECTORY", os.getcwd()), options["--out"])
    try:
        sys.stdout.write(release(root, arguments[0] if arguments else "HEAD", options["--url"], out))
    except (ReleaseError, OSError) as error:
        print("release: %s" % error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
