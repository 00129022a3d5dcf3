# SPDX-License-Identifier: Apache-2.0
"""Reads which versions of the compilers and of the C library are installed.

Bazel does not look at tools and headers outside the workspace: an object compiled by yesterday's gcc looks as good to it
as one by today's. So the versions go into the command lines of the toolchains, where a change is noticed.
"""

_COMMANDS = {
    "CLANG": ["/usr/bin/clang-19", "--version"],
    "GCC": ["/usr/bin/gcc", "--version"],
    "GCC_AARCH64": ["/usr/bin/aarch64-linux-gnu-gcc", "--version"],
    "LIBC": ["/usr/bin/ldd", "--version"],
    # Which gcc it starts; its own version it does not tell.
    "MUSL_GCC": ["/usr/bin/musl-gcc", "--version"],
}

_ALLOWED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+~-"

def _tidy(line):
    """`line` with everything but harmless characters made `_`, for it stands on command lines."""
    return "".join([c if c in _ALLOWED else "_" for c in line.elems()])

def _compiler_probe_impl(repository_ctx):
    lines = ["# What is installed here, or `none`."]
    for name, command in _COMMANDS.items():
        version = "none"
        if repository_ctx.path(command[0]).exists:
            result = repository_ctx.execute(command, environment = {"LC_ALL": "C"})
            if result.return_code == 0:
                version = _tidy(result.stdout.split("\n")[0])
        lines.append("%s = \"%s\"" % (name, version))
    repository_ctx.file("BUILD.bazel", "")
    repository_ctx.file("versions.bzl", "\n".join(lines) + "\n")

compiler_probe = repository_rule(
    implementation = _compiler_probe_impl,
    local = True,
    doc = "Makes @NAME//:versions.bzl with CLANG, GCC, GCC_AARCH64, LIBC and MUSL_GCC; read anew when the Bazel server starts.",
)
