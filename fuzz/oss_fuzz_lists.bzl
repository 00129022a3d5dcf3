# SPDX-License-Identifier: Apache-2.0
"""Bazel's own lists of the fuzz targets' sources, for the test of the tools that read BUILD files without Bazel."""

_TAG = "fuzz-target"

def oss_fuzz_lists(name):
    """Makes `name`, the lists of all fuzz targets defined so far in the package, one file for each.

    Args:
      name: of the filegroup. The list of the target T is T.sources: the labels of its source files, one a line.
    """
    lists = []
    for rule in native.existing_rules().values():
        if _TAG in rule.get("tags", []) and rule["kind"].startswith("cc_"):
            target = rule["name"][:-len("_bin")]

            # NAME_lib instead of NAME_bin, whose main() depends on the engine: a query sees all branches of a select.
            native.genquery(
                name = target + ".sources",
                testonly = True,
                expression = "kind('source file', deps(//fuzz:%s_lib))" % target,
                opts = [
                    "--noimplicit_deps",
                    "--notool_deps",
                ],
                scope = [":%s_lib" % target],
            )
            lists.append(":%s.sources" % target)

    # And that other branch which no such build takes: the headers that planted bugs change.
    native.genquery(
        name = "planted.sources",
        testonly = True,
        expression = "kind('source file', deps(//fuzz/mutants:planted))",
        opts = [
            "--noimplicit_deps",
            "--notool_deps",
        ],
        scope = ["//fuzz/mutants:planted"],
    )
    lists.append(":planted.sources")
    native.filegroup(
        name = name,
        testonly = True,
        srcs = lists,
    )
