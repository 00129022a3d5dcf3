# SPDX-License-Identifier: Apache-2.0
"""The Debian package, as a rule.

    load(":deb.bzl", "deb_package")
"""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def _deb_package_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    output = ctx.actions.declare_file("hakmem_%s_%s.deb" % (ctx.attr.version, ctx.attr.architecture))
    arguments = ctx.actions.args()
    arguments.add("--architecture", ctx.attr.architecture)
    arguments.add("--multiarch", ctx.attr.multiarch)
    arguments.add("--strip", toolchain.strip_executable)
    arguments.add(output)
    arguments.add_all(ctx.files.srcs)
    ctx.actions.run(
        executable = ctx.executable._make_deb,
        arguments = [arguments],
        inputs = depset(ctx.files.srcs, transitive = [toolchain.all_files]),
        outputs = [output],
        mnemonic = "MakeDeb",
        progress_message = "Packing " + output.basename,
        # readelf, dpkg-deb and its compressor are found by PATH; SOURCE_DATE_EPOCH is set by --action_env.
        use_default_shell_env = True,
    )
    return [DefaultInfo(
        files = depset([output]),
        runfiles = ctx.runfiles(files = [output]),
    )]

deb_package = rule(
    implementation = _deb_package_impl,
    attrs = {
        "architecture": attr.string(
            mandatory = True,
            doc = "Debian's name of the architecture.",
        ),
        "multiarch": attr.string(
            mandatory = True,
            doc = "Debian's name of the folder of libraries.",
        ),
        "srcs": attr.label_list(
            mandatory = True,
            allow_files = True,
            doc = "The files that tree.py knows by name.",
        ),
        "version": attr.string(
            mandatory = True,
            doc = "For the name of the file; the package says what hakmem.h says.",
        ),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
        "_make_deb": attr.label(
            default = "//packaging:make_deb",
            executable = True,
            cfg = "exec",
        ),
    },
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
    doc = "hakmem_VERSION_ARCHITECTURE.deb of the given files.",
)
