# SPDX-License-Identifier: Apache-2.0
"""Names for the frames of a profile: the profile's own, or from the programs and libraries that were mapped."""

import os
import shutil
import subprocess

from prof_elf import Elf, ElfError
from prof_profile import Sample

DEBUG_FOLDER = "/usr/lib/debug/.build-id"


class Symbols:
    """`root` stands before all paths, for the files of another machine. `warn` gets a line for each file without names."""

    def __init__(self, root="", warn=lambda line: None):
        self.root = root.rstrip("/")
        self.warn = warn
        self._files = {}  # Mapping -> (Elf for addresses, Elf for names) or None

    def _open(self, mapping):
        if not mapping.file.startswith("/"):
            return None
        path = self.root + mapping.file
        try:
            elf = Elf(path)
            if mapping.build_id and elf.build_id and mapping.build_id != elf.build_id:
                raise ElfError("is another build than the one that ran")
        except ElfError as error:
            self.warn("%s %s: its functions stay addresses" % (path, error))
            return None
        names = elf
        if elf.build_id:
            debug = "%s%s/%s/%s.debug" % (self.root, DEBUG_FOLDER, elf.build_id[:2], elf.build_id[2:])
            if os.path.exists(debug):
                try:
                    names = Elf(debug)
                except ElfError as error:
                    self.warn("%s %s" % (debug, error))
        return elf, names

    def _function(self, mapping, offset):
        """The mangled name of the function at a place in a mapping's file, or None."""
        if mapping not in self._files:
            self._files[mapping] = self._open(mapping)
        files = self._files[mapping]
        if files is None:
            return None
        address = files[0].address_of(offset)
        try:
            return files[1].function_at(address) if address is not None else None
        except ElfError as error:
            self.warn("%s %s: its functions stay addresses" % (self.root + mapping.file, error))
            self._files[mapping] = None
            return None

    def _name(self, frame):
        mapping = frame.mapping
        if mapping is None or not mapping.start <= frame.address < mapping.limit:
            return "0x%x" % frame.address
        offset = frame.address - mapping.start + mapping.offset
        return self._function(mapping, offset) or "%s+0x%x" % (os.path.basename(mapping.file) or "unknown", offset)

    def named(self, profile):
        """The samples of the profile with a name in each frame."""
        # By identity: samples share their frames, and comparing them takes longer.
        frames = {id(frame): frame for sample in profile.samples for frame in sample.frames}
        names = {key: frame.name if frame.name is not None else self._name(frame) for key, frame in frames.items()}
        plain = demangled(set(names.values()))
        with_names = {key: frame._replace(name=plain[names[key]]) for key, frame in frames.items()}
        return [Sample([with_names[id(frame)] for frame in sample.frames], sample.values) for sample in profile.samples]


def demangled(names):
    """{name: readable name}; by c++filt, and unchanged without it."""
    mangled = sorted(name for name in names if name.startswith(("_Z", "_R")) and "\n" not in name)
    plain = {name: name for name in names}
    program = shutil.which("c++filt") or shutil.which("llvm-cxxfilt")
    if not mangled or program is None:
        return plain
    try:
        done = subprocess.run([program], input="\n".join(mangled) + "\n", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              check=True, encoding="utf-8", errors="replace")
    except (OSError, subprocess.CalledProcessError):
        return plain
    lines = done.stdout.split("\n")[:-1]
    if len(lines) == len(mangled):
        plain.update(zip(mangled, lines))
    return plain
