#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts a fuzz target and the files beside it into one archive, as OSS-Fuzz expects them in $OUT.

usage: package_oss_fuzz.py NAME OUTPUT.tar PROGRAM DICT OPTIONS INPUT...

DICT and OPTIONS are files or the word none. The archive has NAME, NAME_seed_corpus.zip, and NAME.dict and NAME.options
if they exist. The same files make the same archive."""
import io
import pathlib
import sys
import tarfile
import zipfile

# The earliest time that a zip archive knows.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def seed_corpus(inputs):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(inputs, key=lambda path: path.name):
            archive.writestr(zipfile.ZipInfo(path.name, ZIP_TIME), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def main():
    if len(sys.argv) < 7:
        print(__doc__, file=sys.stderr)
        return 2
    name, output, program, dictionary, options = sys.argv[1:6]
    try:
        files = [(name, pathlib.Path(program).read_bytes(), 0o755),
                 (name + "_seed_corpus.zip", seed_corpus(map(pathlib.Path, sys.argv[6:])), 0o644)]
        for ending, path in ((".dict", dictionary), (".options", options)):
            if path != "none":
                files.append((name + ending, pathlib.Path(path).read_bytes(), 0o644))
        with tarfile.open(output, "w", format=tarfile.USTAR_FORMAT) as archive:
            for file_name, data, mode in files:
                info = tarfile.TarInfo(file_name)
                info.size, info.mode = len(data), mode
                archive.addfile(info, io.BytesIO(data))
    except OSError as error:
        print("package_oss_fuzz.py: %s" % error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
