# SPDX-License-Identifier: Apache-2.0
"""A header that is compiled once for all sources that include it."""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")
load("//configs:rules.bzl", "CcInfo", "cc_common")

_COMPILE = "c++-compile"

def _precompiled_header_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    header = ctx.actions.declare_file(ctx.label.name + ".h")
    ctx.actions.write(header, "".join(["#include <%s>\n" % name for name in ctx.attr.includes]))

    # gcc and clang look for a file of this name, and take it if it was compiled with the same options.
    compiled = ctx.actions.declare_file(ctx.label.name + ".h.gch")
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    compilation = cc_common.merge_cc_infos(cc_infos = [dep[CcInfo] for dep in ctx.attr.deps]).compilation_context
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = toolchain,
        user_compile_flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts + ctx.attr.copts + ["-x", "c++-header"],
        source_file = header.path,
        output_file = compiled.path,
        include_directories = compilation.includes,
        quote_include_directories = compilation.quote_includes,
        system_include_directories = compilation.system_includes,
        preprocessor_defines = depset(ctx.attr.local_defines, transitive = [compilation.defines]),
    )
    ctx.actions.run(
        executable = cc_common.get_tool_for_action(feature_configuration = features, action_name = _COMPILE),
        arguments = cc_common.get_memory_inefficient_command_line(
            feature_configuration = features,
            action_name = _COMPILE,
            variables = variables,
        ),
        env = cc_common.get_environment_variables(
            feature_configuration = features,
            action_name = _COMPILE,
            variables = variables,
        ),
        inputs = depset([header], transitive = [compilation.headers, toolchain.all_files]),
        outputs = [compiled],
        # clang writes into it where the headers are, as whole paths: not for another folder.
        execution_requirements = {"no-cache": "1"} if ctx.attr.is_for_clang else {},
        mnemonic = "CppPrecompile",
        progress_message = "Precompiling %s" % header.short_path,
    )
    files = depset([header, compiled])
    return [
        DefaultInfo(files = files),
        cc_common.merge_cc_infos(cc_infos = [
            CcInfo(compilation_context = cc_common.create_compilation_context(headers = files)),
        ] + [dep[CcInfo] for dep in ctx.attr.deps]),
    ]

precompiled_header = rule(
    implementation = _precompiled_header_impl,
    attrs = {
        "copts": attr.string_list(doc = "The options of the sources that include it: a compiler refuses it for others."),
        "deps": attr.label_list(doc = "The libraries whose headers it includes.", mandatory = True, providers = [CcInfo]),
        "includes": attr.string_list(doc = "What it includes, in this order.", mandatory = True),
        "is_for_clang": attr.bool(doc = "Whether the compiler is clang."),
        "local_defines": attr.string_list(doc = "The defines of the sources that include it, as far as its headers look at them."),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    doc = "NAME.h with `includes`, and its compiled form beside it. A source needs the option `-include $(BINDIR)/PACKAGE/NAME.h`.",
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
