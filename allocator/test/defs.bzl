# SPDX-License-Identifier: Apache-2.0
"""Forms that the tests of the whole allocator share."""

load("//configs:hakmem.bzl", "PROFILES", "hak_cc_test", "profile_file")
load("//configs:rules.bzl", "sh_test")

def api_test(name, helpers = [], deps = [], size = "medium", srcs = [], **kwargs):
    """A test of the API with its own names: it runs under the sanitizers too.

    Args:
      name: of the test; without `srcs` its file is NAME.cc
      helpers: libraries of this package that it uses
      deps: others, besides //allocator:hakmem
      size: as in hak_cc_test
      srcs: as in hak_cc_test
      **kwargs: as in hak_cc_test
    """
    hak_cc_test(
        name = name,
        size = size,
        srcs = srcs or [name + ".cc"],
        deps = [":" + helper for helper in helpers] + ["//allocator:hakmem"] + deps,
        **kwargs
    )

def override_test(name, srcs, deps = ["//allocator:headers"], static = False, **kwargs):
    """A test of a program whose malloc is hakmem's.

    Args:
      name: of the test
      srcs: as in hak_cc_test
      deps: as in hak_cc_test
      static: whether the program is linked with -static
      **kwargs: as in hak_cc_test
    """
    hak_cc_test(
        name = name,
        srcs = srcs,
        linkopts = ["-static"] if static else [],
        malloc = "//allocator:malloc",
        deps = deps,
        **kwargs
    )

def profile_files(name, src, **kwargs):
    """`src`, built in every profile.

    Args:
      name: of each, with %s for the profile
      src: as in profile_file
      **kwargs: as in profile_file
    """
    for profile in PROFILES:
        profile_file(
            name = name % profile,
            testonly = True,
            src = src,
            profile = profile,
            tags = ["malloc-override"],
            **kwargs
        )

def script_test(name, srcs, args, data = [], **kwargs):
    """A script that gets the paths of built files.

    Args:
      name: of the test
      srcs: as in sh_test
      args: as in sh_test; {LABEL} stands for the path of that file, which need not be in `data`
      data: as in sh_test
      **kwargs: as in sh_test
    """
    used = [part.partition("}")[0] for arg in args for part in arg.split("{")[1:]]
    sh_test(
        name = name,
        srcs = srcs,
        args = [arg.replace("{", "$(location ").replace("}", ")") for arg in args],
        data = used + [label for label in data if label not in used],
        **kwargs
    )
