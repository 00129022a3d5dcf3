# SPDX-License-Identifier: Apache-2.0
"""Labels that look like the malloc and are not: each stops the build and names the right one.

    load("//configs:malloc_label.bzl", "custom_malloc_check", "no_malloc")

Bazel accepts any C++ library as malloc, and does not show a target which attribute of a program names it. So
--custom_malloc can be checked, but `malloc =` cannot: hakmem_in_use_test (in_use_test.bzl) examines the program instead.
"""

load("//configs:rules.bzl", "CcInfo")

_RIGHT = "@hakmem//allocator:malloc"

def _custom_malloc_check_impl(ctx):
    if ctx.attr.chosen:
        fail("--custom_malloc=@hakmem//%s:%s leaves the C library's malloc in every program: --custom_malloc=%s" %
             (ctx.label.package, ctx.attr.chosen, _RIGHT))
    return [CcInfo()]

_custom_malloc_check = rule(
    implementation = _custom_malloc_check_impl,
    attrs = {"chosen": attr.string(doc = "The wrong library that --custom_malloc names.")},
    provides = [CcInfo],
    doc = "See custom_malloc_check.",
)

def custom_malloc_check(name, wrong):
    """For the deps of libraries of this package. Brings nothing, and fails if --custom_malloc names one of `wrong`.

    Args:
      name: of the target.
      wrong: names of libraries of this package that have no malloc.
    """

    # A rule cannot ask for the option itself: Bazel 4 crashes when it is not given.
    chosen = {"//conditions:default": ""}
    for library in wrong:
        native.config_setting(
            name = "custom_malloc_is_" + library,
            values = {"custom_malloc": str(Label("//%s:%s" % (native.package_name(), library)))},
        )
        chosen[":custom_malloc_is_" + library] = library
    _custom_malloc_check(
        name = name,
        chosen = select(chosen),
    )

def _no_malloc_impl(ctx):
    fail("%s is not a library of this build: a program has hakmem's malloc by malloc = \"%s\"; the library for LD_PRELOAD is @hakmem//allocator:libhakmem.so" %
         (ctx.label, _RIGHT))

no_malloc = rule(
    implementation = _no_malloc_impl,
    provides = [CcInfo],
    doc = "A name that builds without Bazel have for a library. Whoever depends on it is told the right label.",
)
