# SPDX-License-Identifier: Apache-2.0
"""The files of an installed hakmem, and writing them: for install.py and make_deb.py."""

import os
import pathlib
import re
import stat
import tempfile

# The files of the build, by the names that `File.source` uses.
SOURCES = ("libhakmem.so.0", "libhakmem.a", "hakmem.h", "expect_heap.h", "memory_resource.h", "pprof.h", "stl_allocator.h", "jemalloc.h", "tcmalloc.h",
           "hakmem-run", "hakmem-prof", "prof_elf.py", "prof_page.html", "prof_page.py", "prof_profile.py", "prof_report.py",
           "prof_symbols.py", "hakmem-top", "top_page.py", "top_view.py", "ENV.md", "LICENSE", "hakmem.pc.in", "hakmem-static.pc.in", "hakmem-config.cmake.in",
           "hakmem-config-version.cmake.in", "hakmem.3.in", "hakmem-prof.1.in", "hakmem-run.1.in", "hakmem-top.1.in")

# Those that //:install_profiles installs side by side, from libhakmem-PROFILE.so.0.
PROFILES = ("fast", "standard", "observe", "hardened")


class TreeError(Exception):
    """What is wrong, for the user."""


def version_of(header):
    """("0.1.0", "0", "1") from the text of hakmem.h."""
    numbers = [re.search(r"^#define HAK_VERSION_%s (\d+)$" % part, header, re.M) for part in ("MAJOR", "MINOR", "PATCH")]
    if not all(numbers):
        raise TreeError("hakmem.h does not tell its version")
    major, minor, patch = (number.group(1) for number in numbers)
    return "%s.%s.%s" % (major, minor, patch), major, minor


def settings_of(env_md):
    """The settings of docs/ENV.md as paragraphs of a man page."""
    rows = re.findall(r"^\| `(HAKMEM_\w+)` \| (.*?) \| (\S+) \|.*\| (.*?) \|$", env_md, re.M)
    if len(rows) < 10:
        raise TreeError("ENV.md holds no table of settings")

    def plain(text):
        return text.replace("`", "").replace("\\", "\\e").replace("-", "\\-")

    lines = []
    for name, values, default, meaning in rows:
        lines += [".TP", ".B " + name, "(%s; %s) %s" % (plain(values), plain(default), plain(meaning))]
    return "\n".join(lines)


def tree(sources, prefix, libdir):
    """{path below the prefix: (content or None, target of a link or None, mode)}.

    `sources` is {name of SOURCES: path}; `libdir` is below the prefix, "lib" for instance."""
    content = {name: pathlib.Path(sources[name]).read_bytes() for name in SOURCES}
    version, major, minor = version_of(content["hakmem.h"].decode())
    words = {
        "PREFIX": prefix,
        "LIBDIR": libdir,
        "UP": "/".join([".."] * (libdir.count("/") + 3)),
        "VERSION": version,
        "MAJOR": major,
        "MINOR": minor,
        "ABI": "0",
        "SETTINGS": settings_of(content["ENV.md"].decode()),
    }

    def filled(name):
        return re.sub(r"@([A-Z]+)@", lambda match: words[match.group(1)], content[name].decode()).encode()

    library = "libhakmem.so." + version
    parts = {"share/hakmem/%s/%s" % (name[:name.index("_")], name): (content[name], None, 0o644)
             for name in SOURCES if name.startswith(("prof_", "top_"))}
    builds = {
        "%s/hakmem/%s/libhakmem.so.0" % (libdir, profile): (pathlib.Path(path).read_bytes(), None, 0o644)
        for profile, path in ((profile, sources.get("libhakmem-%s.so.0" % profile)) for profile in PROFILES)
        if path
    }
    return {
        **builds,
        **parts,
        "bin/hakmem-prof": (content["hakmem-prof"], None, 0o755),
        "bin/hakmem-run": (content["hakmem-run"], None, 0o755),
        "bin/hakmem-top": (content["hakmem-top"], None, 0o755),
        "include/hakmem/compat/jemalloc.h": (content["jemalloc.h"], None, 0o644),
        "include/hakmem/compat/tcmalloc.h": (content["tcmalloc.h"], None, 0o644),
        "include/hakmem/expect_heap.h": (content["expect_heap.h"], None, 0o644),
        "include/hakmem/hakmem.h": (content["hakmem.h"], None, 0o644),
        "include/hakmem/memory_resource.h": (content["memory_resource.h"], None, 0o644),
        "include/hakmem/pprof.h": (content["pprof.h"], None, 0o644),
        "include/hakmem/stl_allocator.h": (content["stl_allocator.h"], None, 0o644),
        libdir + "/" + library: (content["libhakmem.so.0"], None, 0o644),
        libdir + "/libhakmem.so.0": (None, library, 0),
        libdir + "/libhakmem.so": (None, "libhakmem.so.0", 0),
        libdir + "/libhakmem.a": (content["libhakmem.a"], None, 0o644),
        libdir + "/pkgconfig/hakmem.pc": (filled("hakmem.pc.in"), None, 0o644),
        libdir + "/pkgconfig/hakmem-static.pc": (filled("hakmem-static.pc.in"), None, 0o644),
        libdir + "/cmake/hakmem/hakmem-config.cmake": (filled("hakmem-config.cmake.in"), None, 0o644),
        libdir + "/cmake/hakmem/hakmem-config-version.cmake": (filled("hakmem-config-version.cmake.in"), None, 0o644),
        "share/man/man1/hakmem-prof.1": (filled("hakmem-prof.1.in"), None, 0o644),
        "share/man/man1/hakmem-run.1": (filled("hakmem-run.1.in"), None, 0o644),
        "share/man/man1/hakmem-top.1": (filled("hakmem-top.1.in"), None, 0o644),
        "share/man/man3/hakmem.3": (filled("hakmem.3.in"), None, 0o644),
        "share/doc/hakmem/LICENSE": (content["LICENSE"], None, 0o644),
    }


def _replace(path, make):
    """Replaces `path` by the result of `make(temporary path)`, atomically."""
    if path.is_dir() and not path.is_symlink():
        raise TreeError("%s is a folder; nothing is put in its place" % path)
    temporary = tempfile.mktemp(prefix=".hakmem-", dir=path.parent)
    try:
        make(temporary)
        os.replace(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def _make_folders(folder):
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir()
    folder.chmod(0o755)


def write(files, root):
    """Writes the files of tree() below the folder `root`. Each replaces an existing file atomically, so programs that
    use the old one are not affected."""
    for name, (content, target, mode) in files.items():
        path = pathlib.Path(root) / name
        _make_folders(path.parent)
        if target is not None:
            _replace(path, lambda temporary, target=target: os.symlink(target, temporary))
            continue

        def make(temporary, content=content, mode=mode):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.chmod(temporary, mode)

        _replace(path, make)


def remove(files, root):
    """Removes the files of tree() below the folder `root`, and the folders of their own that are empty then. Returns the
    names of the files that were there. A link to another version's library is an error, before anything is removed."""
    root = pathlib.Path(root)
    there = [name for name in files if os.path.lexists(root / name)]
    for name in there:
        path, target = root / name, files[name][1]
        if path.is_dir() and not path.is_symlink():
            raise TreeError("%s is a folder; nothing is removed" % path)
        if target is not None and not (path.is_symlink() and os.readlink(path) == target):
            raise TreeError("%s is of another version; nothing is removed" % path)
    for name in there:
        (root / name).unlink()
    folders = {folder for name in files for folder in pathlib.PurePath(name).parents if "hakmem" in folder.parts}
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        if (root / folder).is_dir() and not any((root / folder).iterdir()):
            (root / folder).rmdir()
    return there
