# SPDX-License-Identifier: Apache-2.0
"""One static archive of a library and all of its dependencies, for builds without Bazel.

    load(":archive.bzl", "static_archive")
"""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "ACTION_NAMES")
load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")
load("//configs:rules.bzl", "CcInfo", "cc_common")

def _objects(dep, seen):
    """The object files of `dep` and its dependencies, position-independent, that are not in `seen` yet."""
    found = []
    for linker_input in dep[CcInfo].linking_context.linker_inputs.to_list():
        for library in linker_input.libraries:
            objects = library.pic_objects if library.pic_objects != None else library.objects
            if not objects:
                continue
            for file in objects:
                if file.path not in seen:
                    seen[file.path] = True
                    found.append(file)
    return found

def _static_archive_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    archiver = cc_common.get_tool_for_action(
        feature_configuration = features,
        action_name = ACTION_NAMES.cpp_link_static_library,
    )
    seen = {}
    members = []
    for dep, name in ctx.attr.members.items():
        objects = _objects(dep, seen)
        if not objects:
            fail("%s brings no object file of its own" % dep.label)
        member = ctx.actions.declare_file("_%s/%s" % (ctx.label.name, name))
        arguments = ctx.actions.args()
        arguments.add_all(["-r", "-o", member])
        arguments.add_all(objects)
        ctx.actions.run(
            executable = toolchain.ld_executable,
            arguments = [arguments],
            inputs = depset(objects, transitive = [toolchain.all_files]),
            outputs = [member],
            mnemonic = "LinkMember",
            progress_message = "Linking " + name,
        )
        members.append(member)
    archive = ctx.actions.declare_file(ctx.label.name)
    arguments = ctx.actions.args()

    # D: without times and users, so that the same objects make the same archive.
    arguments.add_all(["rcsD", archive])
    arguments.add_all(members)
    ctx.actions.run(
        executable = archiver,
        arguments = [arguments],
        inputs = depset(members, transitive = [toolchain.all_files]),
        outputs = [archive],
        mnemonic = "Archive",
        progress_message = "Archiving " + ctx.label.name,
    )
    return [DefaultInfo(
        files = depset([archive]),
        runfiles = ctx.runfiles(files = [archive]),
    )]

static_archive = rule(
    implementation = _static_archive_impl,
    attrs = {
        "members": attr.label_keyed_string_dict(
            mandatory = True,
            providers = [CcInfo],
            doc = """Libraries, and the member that each becomes, in order: all its objects that are in no member before.

A linker takes members as a whole, so what belongs together is never in part another library's.""",
        ),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
    doc = "A static archive, named as the target, for linkers other than Bazel's.",
)
