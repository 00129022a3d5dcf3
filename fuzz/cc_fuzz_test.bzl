# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets.

    load(":cc_fuzz_test.bzl", "cc_fuzz_test")

The targets that the macro makes have the names of rules_fuzzing. The build setting //fuzz:engine selects the driver of NAME_bin:

    standalone   standalone_main.cc, with any compiler (the default): replays files
    libfuzzer    clang's libFuzzer; --config=asan-libfuzzer and --config=ubsan-libfuzzer set it
    external     what --define=LIB_FUZZING_ENGINE=... says: a library or a linker option
"""

load("//configs:hakmem.bzl", "hak_cc_binary", "hak_cc_library", "hak_cc_test")
load("//configs:rules.bzl", "sh_binary")

def cc_fuzz_test(
        name,
        srcs,
        deps,
        dict = None,
        options = None,
        max_len = 4096,
        runs = 3000,
        env = {},
        profiles = None,
        linkopts = [],
        size = "small"):
    """A fuzz target, the test that replays its corpus, and its packages.

    Makes
      NAME            a test in every profile, which runs the corpus and inputs generated from a seed; it needs no engine
      NAME_bin        the fuzzing program; it has the tag `fuzz-target`
      NAME_run        for `bazel run`: starts it with corpus, dictionary and options
      NAME_corpus     the files of corpus/NAME
      NAME_dict       the dictionary, if there is one
      NAME_oss_fuzz   a tar archive of what OSS-Fuzz expects in $OUT

    Args:
      name: of the target, of [A-Za-z0-9_-].
      srcs: C++ with LLVMFuzzerTestOneInput, and headers.
      deps: as for cc_library.
      dict: a libFuzzer dictionary.
      options: a file of options as OSS-Fuzz reads it: NAME.options.
      max_len: of the inputs that the test generates, in bytes.
      runs: how many inputs the test generates.
      env: environment of the test.
      profiles: those that the test runs in; by default all.
      linkopts: as for cc_binary.
      size: of the test.
    """
    native.filegroup(
        name = name + "_corpus",
        srcs = native.glob(["corpus/%s/*" % name]),
    )
    if dict:
        native.filegroup(
            name = name + "_dict",
            srcs = [dict],
        )
    hak_cc_library(
        name = name + "_lib",
        testonly = True,
        srcs = srcs,
        # In a program whose main() is the engine's, nothing refers to the target's function before the engine does.
        alwayslink = True,
        deps = deps + [
            ":fuzz_target_header",
            ":sanitizer_options",
        ],
    )
    hak_cc_binary(
        name = name + "_bin",
        testonly = True,
        lang = "c++",
        linkopts = ["-pthread"] + linkopts + select({
            ":engine_external": ["$(LIB_FUZZING_ENGINE)"],
            ":engine_libfuzzer": ["-fsanitize=fuzzer"],
            ":engine_standalone": [],
        }),
        tags = ["fuzz-target"],
        deps = [":%s_lib" % name] + select({
            ":engine_standalone": [":standalone_main"],
            "//conditions:default": [],
        }),
    )
    more = {"profiles": profiles} if profiles else {}
    hak_cc_test(
        name = name,
        size = size,
        lang = "c++",
        args = [
            "-runs=%d" % runs,
            "-max_len=%d" % max_len,
            "$(locations :%s_corpus)" % name,
        ],
        data = [":%s_corpus" % name],
        env = env,
        gtest = False,
        linkopts = linkopts,
        deps = [
            ":standalone_main",
            ":%s_lib" % name,
        ],
        **more
    )

    beside = ([dict] if dict else []) + ([options] if options else [])
    sh_binary(
        name = name + "_run",
        testonly = True,
        srcs = ["run_fuzzer.sh"],
        args = [
            name,
            "$(location :%s_bin)" % name,
        ] + select({
            ":engine_libfuzzer": ["libfuzzer"],
            "//conditions:default": ["other"],
        }) + [
            "fuzz/corpus/" + name,
            "$(location %s)" % dict if dict else "none",
            "$(location %s)" % options if options else "none",
        ],
        data = beside + [
            ":%s_bin" % name,
            ":%s_corpus" % name,
        ],
    )
    native.genrule(
        name = name + "_oss_fuzz",
        testonly = True,
        srcs = beside + [
            ":%s_bin" % name,
            ":%s_corpus" % name,
        ],
        outs = [name + "_oss_fuzz.tar"],
        cmd = "python3 $(location package_oss_fuzz.py) %s $@ $(location :%s_bin) %s %s $(locations :%s_corpus)" % (
            name,
            name,
            "$(location %s)" % dict if dict else "none",
            "$(location %s)" % options if options else "none",
            name,
        ),
        tools = ["package_oss_fuzz.py"],
    )
