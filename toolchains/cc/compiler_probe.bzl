# SPDX-License-Identifier: Apache-2.0
"""Reads which versions of the compilers and of the C library are installed.

Bazel does not look at tools and headers outside the workspace: an object compiled by yesterday's gcc looks as good to it
as one by today's. So the versions go into the command lines of the toolchains, where a change is noticed.
"""

_COMMANDS = {
    "clang": ["/usr/bin/clang-19", "--version"],
    "gcc": ["/usr/bin/gcc", "--version"],
    "gcc_aarch64": ["/usr/bin/aarch64-linux-gnu-gcc", "--version"],
    "libc": ["/usr/bin/ldd", "--version"],
    # Which gcc it starts; its own version it does not tell.
    "musl": ["/usr/bin/musl-gcc", "--version"],
}

# For each toolchain the Debian packages that it cannot do without, each with a file of its own. A `*` is a machine.
_NEEDS = {
    "clang": {
        "clang-19": "/usr/bin/clang-19",
        "g++": "/usr/bin/g++",
        "libc6-dev": "/usr/include/malloc.h",
        "lld-19": "/usr/bin/ld.lld-19",
        "llvm-19": "/usr/bin/llvm-ar-19",
    },
    "clang_aarch64": {
        "clang-19": "/usr/bin/clang-19",
        "g++-aarch64-linux-gnu": "/usr/bin/aarch64-linux-gnu-g++",
        "libc6-dev-arm64-cross": "/usr/aarch64-linux-gnu/include/malloc.h",
        "lld-19": "/usr/bin/ld.lld-19",
        "llvm-19": "/usr/bin/llvm-ar-19",
    },
    "clang_runtime": {
        "libclang-rt-19-dev": "/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.asan-*.a",
    },
    "gcc": {
        "g++": "/usr/bin/g++",
        "gcc": "/usr/bin/gcc",
        "libc6-dev": "/usr/include/malloc.h",
    },
    "gcc_aarch64": {
        "g++-aarch64-linux-gnu": "/usr/bin/aarch64-linux-gnu-g++",
        "gcc-aarch64-linux-gnu": "/usr/bin/aarch64-linux-gnu-gcc",
        "libc6-dev-arm64-cross": "/usr/aarch64-linux-gnu/include/malloc.h",
    },
    "musl": {
        "gcc": "/usr/bin/gcc",
        "musl-tools": "/usr/bin/musl-gcc",
    },
}

_ALLOWED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+~-"

def _tidy(line):
    """`line` with everything but harmless characters made `_`, for it stands on command lines."""
    return "".join([c if c in _ALLOWED else "_" for c in line.elems()])

def _exists(repository_ctx, pattern):
    for cpu in ["x86_64", "aarch64"]:
        if repository_ctx.path(repository_ctx.os.environ.get("HAKMEM_PROBE_ROOT", "") + pattern.replace("*", cpu)).exists:
            return True
    return False

def _compiler_probe_impl(repository_ctx):
    versions = {}
    for name, command in _COMMANDS.items():
        versions[name] = "none"
        if _exists(repository_ctx, command[0]):
            result = repository_ctx.execute(command, environment = {"LC_ALL": "C"})
            if result.return_code == 0:
                versions[name] = _tidy(result.stdout.split("\n")[0])
    missing = {}
    for name, packages in _NEEDS.items():
        missing[name] = " ".join([package for package, path in packages.items() if not _exists(repository_ctx, path)])
    repository_ctx.file("BUILD.bazel", "")
    repository_ctx.file("versions.bzl", "\n".join([
        "# What is installed here, or `none`; and for each compiler the packages that are not.",
        "VERSIONS = " + repr(versions),
        "MISSING = " + repr(missing),
        "",
    ]))

compiler_probe = repository_rule(
    implementation = _compiler_probe_impl,
    # For check_configs.sh: another place to look for the tools in, such as one without any.
    environ = ["HAKMEM_PROBE_ROOT"],
    local = True,
    doc = "Makes @NAME//:versions.bzl with VERSIONS and MISSING; read anew when the Bazel server starts.",
)
