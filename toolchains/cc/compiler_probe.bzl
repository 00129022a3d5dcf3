# SPDX-License-Identifier: Apache-2.0
"""Reads the installed versions of the compilers and of the C library.

Bazel does not track tools and headers outside the workspace, so it would reuse objects of an older compiler. So the
versions are part of the toolchains' command lines, where a change is noticed."""

_COMMANDS = {
    "clang": ["/usr/bin/clang-19", "--version"],
    "gcc": ["/usr/bin/gcc", "--version"],
    "gcc_aarch64": ["/usr/bin/aarch64-linux-gnu-gcc", "--version"],
    "libc": ["/usr/bin/ldd", "--version"],
    # The gcc that it starts, because it does not print its own version.
    "musl": ["/usr/bin/musl-gcc", "--version"],
}

# For each toolchain the Debian packages that it needs, each with one of its files. `*` stands for the machine.
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
    """`line` with all but harmless characters replaced by `_`, because it is used on command lines."""
    return "".join([c if c in _ALLOWED else "_" for c in line.elems()])

def _exists(repository_ctx, pattern):
    for cpu in ["x86_64", "aarch64"]:
        if repository_ctx.path(repository_ctx.os.environ.get("HAKMEM_TEST_PROBE_ROOT", "") + pattern.replace("*", cpu)).exists:
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
    # For check_configs.sh: another folder to search for the tools, such as an empty one.
    environ = ["HAKMEM_TEST_PROBE_ROOT"],
    local = True,
    doc = "Makes @NAME//:versions.bzl with VERSIONS and MISSING; read anew when the Bazel server starts.",
)
