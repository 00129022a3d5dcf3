# SPDX-License-Identifier: Apache-2.0
"""The toolchains: one description for gcc and clang, native and cross.

Bazel itself adds the features that all Unix compilers share (archiving, linking libraries, coverage, ...). This file
has the rest: the flags of each mode, the sanitizers, and the differences between the compilers."""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")
load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "ACTION_NAMES")
load("@bazel_tools//tools/cpp:cc_toolchain_config_lib.bzl", "feature", "flag_group", "flag_set", "tool_path", "with_feature_set")
load("//configs:rules.bzl", "CcToolchainConfigInfo", "cc_common", "cc_toolchain")
load("//toolchains:configs.bzl", "CONFIGS", "contradiction")

_C_COMPILE = [ACTION_NAMES.c_compile]

_CXX_COMPILE = [
    ACTION_NAMES.cpp_compile,
    ACTION_NAMES.cpp_header_parsing,
    ACTION_NAMES.cpp_module_compile,
    ACTION_NAMES.linkstamp_compile,
]

_COMPILE = _C_COMPILE + _CXX_COMPILE + [
    ACTION_NAMES.assemble,
    ACTION_NAMES.preprocess_assemble,
]

_LINK = [
    ACTION_NAMES.cpp_link_executable,
    ACTION_NAMES.cpp_link_dynamic_library,
    ACTION_NAMES.cpp_link_nodeps_dynamic_library,
]

def _flags(actions, flags, modes = []):
    """A flag_set of `flags`, always or in one of the compilation modes `modes`."""
    return flag_set(
        actions = actions,
        flag_groups = [flag_group(flags = flags)],
        with_features = [with_feature_set(features = [mode]) for mode in modes],
    )

def _feature(name, compile, link, link_shared = [], provides = []):
    """A feature, off by default, with flags for compiling, for linking, and only for linking shared libraries."""
    flag_sets = []
    for actions, flags in [
        (_COMPILE, compile),
        (_LINK, link),
        ([ACTION_NAMES.cpp_link_dynamic_library], link_shared),
    ]:
        if flags:
            flag_sets.append(_flags(actions, flags))
    return feature(name = name, flag_sets = flag_sets, provides = provides)

# Warnings that only one of the two compilers knows.
_GCC_WARNINGS = [
    "-Wcast-align=strict",
    "-Wduplicated-cond",
    "-Wlogical-op",
]

_GCC_C_WARNINGS = ["-Wjump-misses-init"]

_CLANG_WARNINGS = [
    "-Wcast-align",
    "-Wloop-analysis",
]

# The second: accesses without the lock that guards the data (allocator/os/lock_annotations.h). Not for C++, because
# tests read the allocator's records freely.
_CLANG_C_WARNINGS = [
    "-Wmissing-variable-declarations",
    "-Wthread-safety",
]

def _sanitizers(is_clang, cpu):
    # The C driver links C++ too, and clang's then needs this option to include the C++ part of its runtime.
    link_cxx = ["-fsanitize-link-c++-runtime"] if is_clang else []

    # clang expects the runtime in the program. Programs of others have none, and this library may be preloaded into
    # them.
    ubsan_runtime = [
        "-L/usr/lib/llvm-19/lib/clang/19/lib/linux",
        "-l:libclang_rt.ubsan_standalone-%s.a" % cpu,
    ] if is_clang else []

    # contradiction() checks the command line, `provides` the features of a target.
    own_runtime = ["sanitizer_with_its_own_runtime"]
    features = [
        _feature(
            "asan",
            compile = ["-fsanitize=address"],
            link = ["-fsanitize=address"] + link_cxx,
            provides = own_runtime,
        ),
        _feature(
            "ubsan",
            compile = ["-fsanitize=undefined", "-fno-sanitize-recover=all"],
            link = ["-fsanitize=undefined"] + link_cxx,
            link_shared = ubsan_runtime,
        ),
        _feature(
            "tsan",
            compile = ["-fsanitize=thread"],
            link = ["-fsanitize=thread"] + link_cxx,
            provides = own_runtime,
        ),
    ]
    if is_clang:
        features += [
            _feature(
                "msan",
                compile = ["-fsanitize=memory", "-fsanitize-memory-track-origins"],
                link = ["-fsanitize=memory"] + link_cxx,
                provides = own_runtime,
            ),
            # The options by which the engine counts; .bazelrc selects the files that are compiled with them.
            _feature(
                "fuzzer",
                compile = [],
                link = ["-fsanitize=fuzzer-no-link"],
            ),
        ]
    return features

# Link-time optimisation: thin with clang, in parallel with gcc; full_lto treats all files as one.
def _link_time_optimisation(is_clang):
    # The entry points must stay functions under their own names, which link-time optimisation could remove.
    common = [] if is_clang else ["-fno-fat-lto-objects"]
    one = "-flto=thin" if is_clang else "-flto=auto"
    full = "-flto=full" if is_clang else "-flto"
    how = ["link_time_optimisation"]
    return [
        _feature("lto", compile = [one] + common, link = [one, "-O2"], provides = how),
        _feature(
            "full_lto",
            compile = [full] + common,
            link = [full, "-O2"] + ([] if is_clang else ["-flto-partition=one"]),
            provides = how,
        ),
    ]

def _profile_guided(is_clang, profile):
    # Several threads write gcc's counters, so they are atomic; clang's plain increments may lose some.
    generate = ["-fprofile-generate=" + profile] + ([] if is_clang else ["-fprofile-update=atomic"])
    use = ["-fprofile-use=" + profile] + ([
        # A target without counts, such as a test, is not a mistake.
        "-Wno-profile-instr-unprofiled",
        "-Wno-profile-instr-out-of-date",
    ] if is_clang else [
        "-fprofile-partial-training",
        "-Wno-missing-profile",
        "-Wno-coverage-mismatch",
    ])
    how = ["profile_guided_optimisation"]
    return [
        _feature("pgo_generate", compile = generate, link = generate, provides = how),
        _feature("pgo_use", compile = use, link = [], provides = how),
    ]

def _impl(ctx):
    is_clang = ctx.attr.compiler == "clang"
    is_musl = ctx.attr.compiler == "musl"
    profile = ctx.attr._pgo_profile[BuildSettingInfo].value
    if ctx.attr.missing:
        fail("\n%s for %s is not installed, or not all of it. ./bazelw installs what is missing; without it:\n\n    %s\n" % (
            ctx.attr.compiler,
            ctx.attr.cpu,
            "apt-get install %s && bazel shutdown" % ctx.attr.missing,
        ))
    wrong = contradiction(
        chosen = [flag.label.name[len("config_"):] for flag in ctx.attr._chosen if flag[BuildSettingInfo].value],
        compiler = ctx.attr.compiler,
        cpu = ctx.attr.cpu,
        features = ctx.features,
        missing_runtime = ctx.attr.missing_runtime,
        native = ctx.attr.native,
        pgo_profile = profile,
    )
    if wrong:
        fail("\n" + wrong + "\n")
    target = ["--target=" + ctx.attr.clang_target] if ctx.attr.clang_target else []

    default_flags = feature(
        name = "default_flags",
        enabled = True,
        flag_sets = [
            _flags(_COMPILE, target + [
                # Paths of headers without resolving links, because Bazel knows the headers by these paths.
                "-no-canonical-prefixes",
            ] + ([] if is_clang else [
                "-fno-canonical-system-headers",
            ]) + ([
                # The kernel's headers, for a C library that has none. After its own headers, because the folder also
                # has headers of another C library.
                "-idirafter",
                "/usr/include",
                "-idirafter",
                "/usr/include/%s-linux-gnu" % ctx.attr.cpu,
            ] if is_musl else []) + [
                # Makes the command line depend on the compiler's version: see compiler_probe.bzl.
                "-D__HAKMEM_TOOLCHAIN__=" + ctx.attr.version,
                # The same sources make the same object.
                "-Wno-builtin-macro-redefined",
                "-D__DATE__=\"redacted\"",
                "-D__TIME__=\"redacted\"",
                "-D__TIMESTAMP__=\"redacted\"",
            ]),
            _flags(_COMPILE, ["-O2", "-DNDEBUG", "-ffunction-sections", "-fdata-sections"], ["opt"]),
            _flags(_COMPILE, ["-O0"], ["fastbuild"]),
            _flags(_COMPILE, ["-O0", "-g3", "-fno-omit-frame-pointer"], ["dbg"]),
            # For targets that do not use hakmem.bzl.
            _flags(_CXX_COMPILE, ["-std=c++17"]),
            _flags(_LINK, target + ([
                "--ld-path=" + ctx.attr.tools["ld"],
            ] if is_clang else []) + [
                "-no-canonical-prefixes",
                "-Wl,-z,relro,-z,now",
            ]),
            _flags(_LINK, ["-Wl,--gc-sections"], ["opt"]),
        ],
    )

    # After everything else on the link line. A program or library in C gets no dependency on libstdc++. musl has none.
    default_libraries = feature(
        name = "default_libraries",
        enabled = not is_musl,
        flag_sets = [_flags(_LINK, ["-Wl,--push-state,--as-needed", "-lstdc++", "-lm", "-Wl,--pop-state"])],
    )

    warnings = feature(
        name = "hakmem_warnings",
        flag_sets = [
            _flags(_C_COMPILE + _CXX_COMPILE, _CLANG_WARNINGS if is_clang else _GCC_WARNINGS),
            _flags(_C_COMPILE, _CLANG_C_WARNINGS if is_clang else _GCC_C_WARNINGS),
        ],
    )

    features = [
        feature(name = "opt"),
        feature(name = "dbg"),
        feature(name = "fastbuild"),
        feature(name = "supports_dynamic_linker", enabled = True),
        feature(name = "supports_pic", enabled = True),
        default_flags,
        default_libraries,
        warnings,
    ] + _sanitizers(is_clang, ctx.attr.cpu) + _link_time_optimisation(is_clang) + _profile_guided(is_clang, profile)
    if is_clang:
        # third_party/remote_coverage_tools reads gcc's reports. Bazel's features for coverage provide this symbol too,
        # and the error names both, because a toolchain cannot tell otherwise that coverage is requested.
        features.append(feature(name = "coverage_is_measured_with_gcc", enabled = True, provides = ["profile"]))

        # Only lld knows --start-lib.
        features.append(feature(name = "supports_start_end_lib", enabled = True))

    return cc_common.create_cc_toolchain_config_info(
        ctx = ctx,
        features = features,
        cxx_builtin_include_directories = ctx.attr.builtin_includes,
        toolchain_identifier = ctx.attr.name,
        host_system_name = "local",
        target_system_name = ctx.attr.cpu + "-linux-gnu",
        target_cpu = ctx.attr.cpu,
        target_libc = "musl" if is_musl else "glibc",
        compiler = ctx.attr.compiler,
        abi_version = "local",
        abi_libc_version = "local",
        tool_paths = [tool_path(name = name, path = path) for name, path in ctx.attr.tools.items()],
    )

_cc_toolchain_config = rule(
    implementation = _impl,
    attrs = {
        "builtin_includes": attr.string_list(mandatory = True),
        "clang_target": attr.string(),
        "compiler": attr.string(mandatory = True, values = ["gcc", "clang", "musl"]),
        "cpu": attr.string(mandatory = True),
        "missing": attr.string(doc = "Debian packages that it needs and that are not there."),
        "missing_runtime": attr.string(doc = "The same for its sanitizers."),
        "native": attr.bool(mandatory = True),
        "tools": attr.string_dict(mandatory = True),
        "version": attr.string(mandatory = True),
        "_chosen": attr.label_list(default = ["//toolchains:config_" + name for name in CONFIGS]),
        "_pgo_profile": attr.label(default = "//toolchains/cc:pgo_profile"),
    },
    provides = [CcToolchainConfigInfo],
)

_HOST_INCLUDES = [
    "/usr/include",
    "/usr/lib/gcc",
    "/usr/local/include",
]

_CROSS_INCLUDES = [
    "/usr/aarch64-linux-gnu/include",
    "/usr/lib/gcc-cross",
]

_CLANG_INCLUDES = [
    "/usr/lib/clang/19",
    "/usr/lib/llvm-19/lib/clang/19",
]

def _gnu_tools(prefix):
    return {
        "ar": prefix + "ar",
        "cpp": prefix + "cpp",
        "dwp": prefix + "dwp",
        "gcc": prefix + "gcc",
        "gcov": prefix + "gcov",
        "ld": prefix + "ld",
        "nm": prefix + "nm",
        "objcopy": prefix + "objcopy",
        "objdump": prefix + "objdump",
        "strip": prefix + "strip",
    }

_CLANG_TOOLS = {
    "ar": "/usr/bin/llvm-ar-19",
    "cpp": "/usr/bin/clang-cpp-19",
    "dwp": "/usr/bin/llvm-dwp-19",
    "gcc": "/usr/bin/clang-19",
    "gcov": "/usr/bin/llvm-cov-19",
    "ld": "/usr/bin/ld.lld-19",
    "nm": "/usr/bin/llvm-nm-19",
    "objcopy": "/usr/bin/llvm-objcopy-19",
    "objdump": "/usr/bin/llvm-objdump-19",
    "strip": "/usr/bin/llvm-strip-19",
}

# `bazel build --config=ubsan //...` must not fail for toolchains without ubsan that it does not use.
_NOT_BY_WILDCARD = ["manual"]

def hak_cc_toolchain(name, exec_cpu, target_cpu, versions, missing, libc = "glibc"):
    """A toolchain, ready to be registered: gcc, or clang with --config=clang.

    Args:
      name: of the toolchain.
      exec_cpu: the machine it runs on, "x86_64" or "aarch64".
      target_cpu: the machine it compiles for.
      versions: the versions of the compilers and the C library from @hakmem_compilers.
      missing: the missing packages from @hakmem_compilers.
      libc: "glibc" or "musl", which is only for gcc.
    """
    is_musl = libc == "musl"
    cross = exec_cpu != target_cpu
    suffix = "_" + target_cpu if cross else ""
    gnu_tools = _gnu_tools("/usr/bin/%s-linux-gnu-" % target_cpu if cross else "/usr/bin/")
    if is_musl:
        gnu_tools["gcc"] = "/usr/bin/musl-gcc"
    version = versions["musl" if is_musl else "gcc" + suffix]
    _cc_toolchain_config(
        name = name + "_gcc_config",
        # musl-gcc finds the compiler in /bin, which is a link to /usr/bin.
        builtin_includes = (_CROSS_INCLUDES if cross else _HOST_INCLUDES) + (["/lib/gcc"] if is_musl else []),
        compiler = "musl" if is_musl else "gcc",
        cpu = target_cpu,
        missing = missing["musl" if is_musl else "gcc" + suffix],
        native = not cross,
        tags = _NOT_BY_WILDCARD,
        tools = gnu_tools,
        version = version + ("" if cross or is_musl else "/" + versions["libc"]),
    )
    _cc_toolchain_config(
        name = name + "_clang_config",
        builtin_includes = _CLANG_INCLUDES + (_CROSS_INCLUDES if cross else _HOST_INCLUDES),
        clang_target = target_cpu + "-linux-gnu" if cross else "",
        compiler = "clang",
        cpu = target_cpu,
        missing = missing["clang" + suffix],
        missing_runtime = missing["clang_runtime"],
        native = not cross,
        tags = _NOT_BY_WILDCARD,
        tools = _CLANG_TOOLS,
        # For the other machine it links with the other compiler's libraries.
        version = versions["clang"] + "/" + versions["gcc" + suffix if cross else "libc"],
    )
    cc_toolchain(
        name = name + "_cc",
        all_files = ":none",
        ar_files = ":none",
        as_files = ":none",
        compiler_files = ":none",
        dwp_files = ":none",
        linker_files = ":none",
        objcopy_files = ":none",
        strip_files = ":none",
        supports_param_files = True,
        tags = _NOT_BY_WILDCARD,
        toolchain_config = select({
            "//toolchains:clang": ":%s_clang_config" % name,
            "//conditions:default": ":%s_gcc_config" % name,
        }),
        toolchain_identifier = name,
    )
    native.toolchain(
        name = name,
        exec_compatible_with = [
            "@platforms//cpu:" + exec_cpu,
            "@platforms//os:linux",
        ],
        target_compatible_with = [
            "@platforms//cpu:" + target_cpu,
            "@platforms//os:linux",
            "//toolchains/platforms:" + libc,
        ],
        toolchain = ":" + name + "_cc",
        toolchain_type = "@bazel_tools//tools/cpp:toolchain_type",
    )
