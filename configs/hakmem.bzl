# SPDX-License-Identifier: Apache-2.0
"""How hakmem's own code is compiled and tested.

    load("//configs:hakmem.bzl", "hak_cc_binary", "hak_cc_library", "hak_cc_test", "profile_file", "profile_test")

One target holds sources of one language: `.c` (C17) or `.cc` (C++17), since warnings and standards differ. Includes are
written from the root of the repository (`#include "allocator/os/os.h"`), the public ones as `<hakmem/hakmem.h>`.
"""

load("//configs:rules.bzl", "CcInfo", "cc_binary", "cc_library", "cc_test")
load("//fuzz/mutants:planted_sources.bzl", "PLANTED_COPTS", "PLANTED_DEPS", "planted_srcs", "planted_textual_hdrs")

PROFILES = ["standard", "fast", "observe", "hardened"]

# The profiles for which every test has a copy. The others are tested by separate builds.
TESTED_PROFILES = ["standard", "fast", "observe"]

# For tests whose program is the same code in other profiles, byte for byte, so that copies would show nothing new.
# `.ci/run long` runs every test in every profile nevertheless.
ALL_ALIKE = ["standard"]

FAST_ALIKE = ["standard", "observe"]

OBSERVE_ALIKE = ["standard", "fast"]

HEADERS = ["default", "none", "preserve", "always"]

_PROFILE_FLAG = str(Label("//configs:profile"))
_HEADER_FLAG = str(Label("//configs:header"))
_CONF_FLAG = str(Label("//configs:conf"))
_PASSDOWN_FLAG = str(Label("//configs:alloc_passdown_ssot"))

# What the sources see of the build settings: exactly one HAK_PROFILE_*, and one HAK_HEADER_* unless that setting is
# `default`. For local_defines, so that dependents do not get them.
HAK_DEFINES = ["_GNU_SOURCE=1"] + select({
    str(Label("//configs:profile_fast")): ["HAK_PROFILE_FAST=1"],
    str(Label("//configs:profile_hardened")): ["HAK_PROFILE_HARDENED=1"],
    str(Label("//configs:profile_observe")): ["HAK_PROFILE_OBSERVE=1"],
    str(Label("//configs:profile_standard")): ["HAK_PROFILE_STANDARD=1"],
}) + select({
    str(Label("//configs:header_always")): ["HAK_HEADER_ALWAYS=1"],
    str(Label("//configs:header_none")): ["HAK_HEADER_NONE=1"],
    str(Label("//configs:header_preserve")): ["HAK_HEADER_PRESERVE=1"],
    "//conditions:default": [],
}) + select({
    str(Label("//configs:alloc_passdown_ssot_on")): ["HAK_ALLOC_PASSDOWN=1"],
    "//conditions:default": [],
})

# Warnings that gcc and clang both know, in C and in C++. The toolchains of this repository add those that only one of
# them knows (feature `hakmem_warnings`).
_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wcast-qual",
    "-Wconversion",
    "-Wdate-time",
    "-Wdouble-promotion",
    "-Wformat=2",
    "-Wimplicit-fallthrough",
    "-Wmissing-declarations",
    "-Wpointer-arith",
    "-Wshadow",
    "-Wundef",
    "-Wvla",
    "-Wwrite-strings",
]

_C_WARNINGS = [
    "-Wmissing-prototypes",
    "-Wold-style-definition",
    "-Wsign-conversion",
    "-Wstrict-prototypes",
]

_CXX_WARNINGS = [
    "-Wextra-semi",
    "-Wnon-virtual-dtor",
    "-Woverloaded-virtual",
]

# The compiler must not treat these functions as the C library's: it would replace malloc and memset inside our own
# calloc by a call of calloc, and remove a malloc and free that a test makes for their effects.
_NO_BUILTINS = [
    "-fno-builtin-malloc",
    "-fno-builtin-calloc",
    "-fno-builtin-realloc",
    "-fno-builtin-free",
    "-fno-builtin-aligned_alloc",
    "-fno-builtin-memalign",
    "-fno-builtin-posix_memalign",
]

HAK_COPTS = _WARNINGS + select({
    str(Label("//configs:warnings_are_errors")): ["-Werror"],
    "//conditions:default": [],
}) + _NO_BUILTINS

HAK_C_COPTS = HAK_COPTS + ["-std=c17"] + _C_WARNINGS

HAK_CXX_COPTS = HAK_COPTS + ["-std=c++17"] + _CXX_WARNINGS

# For code in a consumer's process: only symbols marked HAK_EXPORT are visible outside, and thread variables are
# accessed without a call. A consumer's default mode, fastbuild, does not optimise; the allocator is optimised
# nevertheless, because consumers rarely debug it, except with -c dbg.
_LIBRARY_COPTS = [
    "-fvisibility=hidden",
    "-ftls-model=initial-exec",
] + select({
    str(Label("//configs:fastbuild")): ["-O2"],
    "//conditions:default": [],
})

# For boxes that run at the start or on request only: small code serves a program better than fast code.
COLD_COPTS = select({
    str(Label("//configs:fastbuild")): ["-Os"],
    str(Label("//configs:opt")): ["-Os"],
    "//conditions:default": [],
})

# Compiling tests takes more time than running them, so their sources are optimised little. Models and engines, which do
# the work of a test, are libraries and are fully optimised. clang's -Og is -O1, which takes up to twice as long as -O0
# with a sanitizer; gcc's takes no longer than its -O0.
HAK_TEST_COPTS = select({
    str(Label("//configs:opt")): ["-Og"],
    "//conditions:default": [],
}) + select({
    str(Label("//toolchains:clang")): ["-O0"],
    "//conditions:default": [],
})

# A header that was compiled before, with what nearly every test includes. Only for sources with the same options.
_PRECOMPILED = str(Label("//configs:precompiled_on"))
_PRECOMPILED_COPTS = select({
    _PRECOMPILED: [
        "-include",
        "$(BINDIR)/third_party/test_headers.h",
    ],
    "//conditions:default": [],
})
_PRECOMPILED_DEPS = select({
    _PRECOMPILED: [str(Label("//third_party:test_headers"))],
    "//conditions:default": [],
})

_FEATURES = ["hakmem_warnings"]

_C_ENDINGS = (".c",)

_CXX_ENDINGS = (".cc", ".cpp")

def _copts(name, srcs, lang):
    """The options for `srcs`, by their language. `lang` ("c" or "c++") is for sources with other endings."""
    if lang not in [None, "c", "c++"]:
        fail("%s: lang must be \"c\" or \"c++\", not \"%s\"" % (name, lang))
    found = {lang: True} if lang else {}
    if type(srcs) == "list":
        for src in srcs:
            if src.endswith(_C_ENDINGS):
                found["c"] = True
            elif src.endswith(_CXX_ENDINGS):
                found["c++"] = True
    if len(found) > 1:
        fail("%s: C and C++ sources must be in targets of their own" % name)
    return HAK_CXX_COPTS if "c++" in found else HAK_C_COPTS

def hak_cc_library(name, srcs = [], hdrs = [], deps = [], copts = [], local_defines = [], features = [], lang = None, **kwargs):
    """A cc_library of hakmem's own code, with all warnings, the profile's defines, hidden symbols and initial-exec TLS.

    Args:
      name: of the target.
      srcs: all `.c` or all `.cc`, and private headers.
      hdrs: as for cc_library.
      deps: as for cc_library.
      copts: more options, after ours.
      local_defines: more defines, after ours.
      features: more features.
      lang: "c" or "c++" when `srcs` does not tell (a select, say).
      **kwargs: as for cc_library; `linkstatic` is on, for hidden symbols cannot be reached from another shared library.
    """
    kwargs.setdefault("linkstatic", True)
    if "textual_hdrs" in kwargs:
        kwargs["textual_hdrs"] = planted_textual_hdrs(name, kwargs["textual_hdrs"])
    cc_library(
        name = name,
        srcs = planted_srcs(name, srcs),
        hdrs = hdrs,
        copts = _copts(name, srcs, lang) + _LIBRARY_COPTS + copts + PLANTED_COPTS,
        local_defines = HAK_DEFINES + local_defines,
        features = _FEATURES + features,
        deps = deps + PLANTED_DEPS,
        **kwargs
    )

def hak_cc_binary(name, srcs = [], deps = [], copts = [], local_defines = [], features = [], lang = None, **kwargs):
    """A cc_binary of hakmem's own code: a benchmark, a tool, a program that a test runs, or a shared library.

    Args:
      name: of the target; "libx.so" with `linkshared = True` for a shared library.
      srcs: all `.c` or all `.cc`, and private headers.
      deps: as for cc_binary.
      copts: more options, after ours.
      local_defines: more defines, after ours.
      features: more features.
      lang: "c" or "c++" when `srcs` does not tell.
      **kwargs: as for cc_binary (`malloc`, `linkshared`, `linkopts`, `data`, ...); `linkstatic` is on.
    """
    kwargs.setdefault("linkstatic", True)
    cc_binary(
        name = name,
        srcs = srcs,
        copts = _copts(name, srcs, lang) + (_LIBRARY_COPTS if kwargs.get("linkshared") else []) + copts + PLANTED_COPTS,
        local_defines = HAK_DEFINES + local_defines,
        features = _FEATURES + features,
        deps = deps + PLANTED_DEPS,
        **kwargs
    )

def hak_cc_test(
        name,
        srcs = [],
        deps = [],
        profiles = TESTED_PROFILES,
        copts = [],
        local_defines = [],
        features = [],
        linkopts = [],
        tags = [],
        lang = None,
        gtest = True,
        malloc = None,
        args = [],
        data = [],
        env = {},
        size = "small",
        timeout = None,
        flaky = False,
        shard_count = None,
        **kwargs):
    """A test that one `bazel test //...` runs under every profile.

    Makes the target `name`, built with the flags of the command line (so STANDARD unless --config says otherwise), and
    `name`_fast and `name`_observe, the same test built under that profile, with the tag `other-profile`.

    Args:
      name: of the test.
      srcs: all `.c` or all `.cc`, and private headers.
      deps: as for cc_test; googletest is added.
      profiles: those that the test holds for. Without "standard", `name` itself is left out of `//...`.
      copts: more options, after ours.
      local_defines: more defines, after ours.
      features: more features.
      linkopts: more linker options; -pthread is among them.
      tags: as for cc_test.
      lang: "c" or "c++" when `srcs` does not tell.
      gtest: False for a test with a main() of its own, without googletest.
      malloc: as for cc_test, `//allocator:malloc` to run on the override; adds the tag `malloc-override`, by which
        builds with a sanitizer that has a malloc of its own leave the test out.
      args: the test's arguments.
      data: the files it reads.
      env: its environment.
      size: as for cc_test.
      timeout: as for cc_test.
      flaky: as for cc_test.
      shard_count: as for cc_test.
      **kwargs: as for cc_test.
    """
    for profile in profiles:
        if profile not in PROFILES:
            fail("%s: unknown profile \"%s\"; the profiles are %s" % (name, profile, ", ".join(PROFILES)))
    if malloc:
        kwargs["malloc"] = malloc
        tags = tags + ["malloc-override"]
    kwargs.setdefault("linkstatic", True)

    # The attributes of the test run, common to `name` and to its copies under other profiles.
    run = {
        "args": args,
        "data": data,
        "env": env,
        "flaky": flaky,
        "size": size,
        "tags": tags,
    }
    if timeout:
        run["timeout"] = timeout
    if shard_count:
        run["shard_count"] = shard_count
    visibility = kwargs.pop("visibility", None)
    own_run = dict(run)
    if "standard" not in profiles:
        own_run["tags"] = tags + ["manual"]
    own_copts = _copts(name, srcs, lang) + HAK_TEST_COPTS
    if gtest:
        deps = deps + ["//third_party:gtest_main"]
        if not copts:
            deps = deps + _PRECOMPILED_DEPS
            own_copts = own_copts + _PRECOMPILED_COPTS
    cc_test(
        name = name,
        srcs = srcs,
        copts = own_copts + copts + PLANTED_COPTS,
        local_defines = HAK_DEFINES + local_defines,
        features = _FEATURES + features,
        linkopts = ["-pthread"] + linkopts,
        visibility = visibility,
        deps = deps + PLANTED_DEPS,
        **dict(kwargs, **own_run)
    )
    run["tags"] = tags + ["other-profile"]
    for profile in profiles:
        if profile != "standard":
            profile_test(
                name = name + "_" + profile,
                profile = profile,
                test = ":" + name,
                visibility = visibility,
                **run
            )

# ---- Building under another profile ----------------------------------------------------------------------------------

# Both transitions set all of them, because otherwise the same settings would have two output folders, and everything
# would be built twice.
_FLAGS = [
    _PROFILE_FLAG,
    _HEADER_FLAG,
    _CONF_FLAG,
    _PASSDOWN_FLAG,
]

def _to_profile_impl(settings, attr):
    if attr.profile not in PROFILES:
        fail("unknown profile \"%s\"; the profiles are %s" % (attr.profile, ", ".join(PROFILES)))
    if attr.header not in HEADERS:
        fail("unknown header \"%s\"; the header modes are %s" % (attr.header, ", ".join(HEADERS)))
    return {
        _PROFILE_FLAG: attr.profile,
        _HEADER_FLAG: attr.header,
        _CONF_FLAG: getattr(attr, "conf", "") or settings[_CONF_FLAG],
        _PASSDOWN_FLAG: settings[_PASSDOWN_FLAG] or getattr(attr, "alloc_passdown_ssot", False),
    }

_to_profile = transition(
    implementation = _to_profile_impl,
    inputs = [
        _CONF_FLAG,
        _PASSDOWN_FLAG,
    ],
    outputs = _FLAGS,
)

def _to_neutral_impl(_settings, _attr):
    return {
        _PROFILE_FLAG: "standard",
        _HEADER_FLAG: "default",
        _CONF_FLAG: "",
        _PASSDOWN_FLAG: False,
    }

_to_neutral = transition(
    implementation = _to_neutral_impl,
    inputs = [],
    outputs = _FLAGS,
)

# Bazel requires that every rule with a transition names this list of permissions.
_ALLOWLIST = "@bazel_tools//tools/allowlists/function_transition_allowlist"

def _only(attribute):
    # An attribute with a transition is a list, even if it names one label.
    return attribute[0] if type(attribute) == "list" else attribute

def _profile_test_impl(ctx):
    test = _only(ctx.attr.test)
    executable = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(
        output = executable,
        target_file = test[DefaultInfo].files_to_run.executable,
        is_executable = True,
    )
    runfiles = ctx.runfiles(files = [executable] + ctx.files.data)
    runfiles = runfiles.merge(test[DefaultInfo].default_runfiles)
    for target in ctx.attr.data:
        runfiles = runfiles.merge(target[DefaultInfo].default_runfiles)
    environment = {}
    for key, value in ctx.attr.env.items():
        environment[key] = ctx.expand_location(value, ctx.attr.data)
    return [
        DefaultInfo(
            executable = executable,
            files = depset([executable]),
            runfiles = runfiles,
        ),
        testing.TestEnvironment(environment),
    ]

profile_test = rule(
    implementation = _profile_test_impl,
    test = True,
    attrs = {
        "alloc_passdown_ssot": attr.bool(doc = "Whether //configs:alloc_passdown_ssot is on although the command line does not say so."),
        "data": attr.label_list(
            allow_files = True,
            doc = "Files for `args` and `env` to name by $(location); built with the flags of the command line.",
        ),
        "env": attr.string_dict(doc = "The environment of the test."),
        "header": attr.string(
            default = "default",
            doc = "The mode of the header lane.",
        ),
        "profile": attr.string(
            mandatory = True,
            doc = "The profile to build `test` under.",
        ),
        "test": attr.label(
            mandatory = True,
            executable = True,
            cfg = _to_profile,
            doc = "Any test or program.",
        ),
        "_allowlist_function_transition": attr.label(default = _ALLOWLIST),
    },
    doc = "Runs `test`, with all that it depends on, built under another profile.",
)

def _profile_file_impl(ctx):
    src = _only(ctx.attr.src)
    files = src[DefaultInfo].files.to_list()
    executable = src[DefaultInfo].files_to_run.executable
    if executable:
        files = [executable]
    if len(files) != 1:
        fail("%s must be one file, but is %d: %s" % (src.label, len(files), files))
    output = ctx.actions.declare_file(ctx.attr.out or ctx.label.name)
    ctx.actions.symlink(output = output, target_file = files[0])

    # Without the runfiles of `src`, which include its own file under the same name in every profile.
    return [DefaultInfo(
        files = depset([output]),
        runfiles = ctx.runfiles(files = [output]),
        executable = output,
    )]

profile_file = rule(
    implementation = _profile_file_impl,
    executable = True,
    attrs = {
        "conf": attr.string(doc = "What //configs:conf is; as the command line says when empty."),
        "header": attr.string(
            default = "default",
            doc = "The mode of the header lane.",
        ),
        "out": attr.string(doc = "The name of the file; the name of the target when empty."),
        "profile": attr.string(
            mandatory = True,
            doc = "The profile to build `src` under.",
        ),
        "src": attr.label(
            mandatory = True,
            allow_files = True,
            cfg = _to_profile,
            doc = "A program or a shared library: a target of one file, which needs no other to run.",
        ),
        "_allowlist_function_transition": attr.label(default = _ALLOWLIST),
    },
    doc = """One program or library, built under a given profile and other settings whatever the command line says.

For tests and benchmarks that want several builds of one file side by side.""",
)

def _profile_neutral_impl(ctx):
    dep = _only(ctx.attr.dep)
    return [
        dep[DefaultInfo],
        dep[CcInfo],
        coverage_common.instrumented_files_info(ctx, dependency_attributes = ["dep"]),
    ]

profile_neutral = rule(
    implementation = _profile_neutral_impl,
    attrs = {
        "dep": attr.label(
            mandatory = True,
            cfg = _to_neutral,
            providers = [CcInfo],
            doc = "A library.",
        ),
        "_allowlist_function_transition": attr.label(default = _ALLOWLIST),
    },
    doc = "A C or C++ library that does not depend on the profile, compiled once for all of them.",
)
