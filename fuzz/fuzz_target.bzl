# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets.

    load(":fuzz_target.bzl", "fuzz_target")

Who drives them is the build setting //fuzz:engine:

    standalone   standalone_main.cc, with any compiler (the default): replays files
    libfuzzer    clang's libFuzzer; --config=fuzz sets it
    external     what --define=LIB_FUZZING_ENGINE=... says: a library or a linker option
"""

load("//configs:hakmem.bzl", "hak_cc_binary", "hak_cc_library", "hak_cc_test")

def fuzz_target(
        name,
        srcs,
        deps,
        corpus = None,
        dict = None,
        max_len = 4096,
        runs = 3000,
        linkopts = [],
        size = "small"):
    """A fuzz target and the test that replays its corpus.

    Makes NAME, the program for fuzzing; NAME_regression_test, in every profile, which runs the corpus and inputs made up
    from a seed and needs no fuzzing engine; and NAME_corpus, the files of the corpus.

    Args:
      name: of the target, of [A-Za-z0-9_-].
      srcs: C++ with LLVMFuzzerTestOneInput, and headers.
      deps: as for cc_library.
      corpus: files to begin with; by default those in corpus/NAME.
      dict: a libFuzzer dictionary, handed on with the program.
      max_len: of the inputs that the test makes up, in bytes.
      runs: how many inputs the test makes up.
      linkopts: as for cc_binary.
      size: of the test.
    """
    native.filegroup(
        name = name + "_corpus",
        srcs = corpus if corpus != None else native.glob(["corpus/%s/*" % name]),
    )
    hak_cc_library(
        name = name + "_lib",
        testonly = True,
        srcs = srcs,
        # Nothing in a program that has its main() from the engine names the target's function before the engine does.
        alwayslink = True,
        deps = deps + [":fuzz_target_header"],
    )
    hak_cc_binary(
        name = name,
        testonly = True,
        lang = "c++",
        data = [":%s_corpus" % name] + ([dict] if dict else []),
        linkopts = ["-pthread"] + linkopts + select({
            ":engine_external": ["$(LIB_FUZZING_ENGINE)"],
            ":engine_libfuzzer": ["-fsanitize=fuzzer"],
            ":engine_standalone": [],
        }),
        deps = [":%s_lib" % name] + select({
            ":engine_standalone": [":standalone_main"],
            "//conditions:default": [],
        }),
    )
    hak_cc_test(
        name = name + "_regression_test",
        size = size,
        lang = "c++",
        args = [
            "-runs=%d" % runs,
            "-max_len=%d" % max_len,
            "$(locations :%s_corpus)" % name,
        ],
        data = [":%s_corpus" % name],
        gtest = False,
        linkopts = linkopts,
        deps = [
            ":standalone_main",
            ":%s_lib" % name,
        ],
    )
