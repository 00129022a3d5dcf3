# SPDX-License-Identifier: Apache-2.0
"""How the build setting //configs:mutant changes sources. configs/hakmem.bzl is the only user.

With the setting at `none` nothing here is part of any build. With the name of a mutant, each `.c` of the allocator is
compiled from a copy, and one of the copies has the bug. A bug in a header is included before anything else in every
source, and the header's guard then excludes the original."""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")
load(":mutants.bzl", "MUTANTS")

_NONE = str(Label("//configs:mutant_none"))

# A bug may leave a variable unused.
PLANTED_COPTS = select({
    _NONE: [],
    "//conditions:default": [
        "-Wno-error",
        "-include",
        "fuzz/mutants/planted.h",
    ],
})

PLANTED_DEPS = select({
    _NONE: [],
    "//conditions:default": [str(Label("//fuzz/mutants:planted"))],
})

_ATTRS = {
    "_mutant": attr.label(default = Label("//configs:mutant")),
    "_plant": attr.label(
        default = Label("//fuzz/mutants:plant.py"),
        allow_single_file = True,
        executable = True,
        cfg = "exec",
    ),
}

def _chosen(ctx):
    """The mutant that the setting names; None for `none`."""
    for mutant in MUTANTS:
        if mutant["name"] == ctx.attr._mutant[BuildSettingInfo].value:
            return mutant
    return None

def _plant(ctx, mutant, src, output, condition = ""):
    ctx.actions.run(
        executable = ctx.executable._plant,
        arguments = [mutant["name"], mutant["old"], mutant["new"], src.path, output.path, condition],
        inputs = [src],
        outputs = [output],
        mnemonic = "PlantMutant",
    )

def _planted_copies_impl(ctx):
    mutant = _chosen(ctx)
    outputs = []
    for src in ctx.files.srcs:
        mutated = mutant != None and mutant["file"] == src.short_path
        if ctx.attr.only_mutated and not mutated:
            continue
        output = ctx.actions.declare_file("_planted/%s/%s" % (ctx.attr.folder, src.short_path if ctx.attr.only_mutated else src.basename))
        if mutated:
            _plant(ctx, mutant, src, output)
        else:
            ctx.actions.symlink(output = output, target_file = src)
        outputs.append(output)
    return [DefaultInfo(files = depset(outputs))]

_planted_copies = rule(
    implementation = _planted_copies_impl,
    attrs = dict(
        _ATTRS,
        folder = attr.string(mandatory = True),
        only_mutated = attr.bool(doc = "Only the file with the bug, at its whole path below the folder."),
        srcs = attr.label_list(allow_files = True),
    ),
)

def _planted_header_impl(ctx):
    mutant = _chosen(ctx)
    output = ctx.actions.declare_file(ctx.label.name)
    for src in ctx.files.headers:
        if mutant != None and mutant["file"] == src.short_path:
            # The headers that the original includes are found only from the original's folder.
            _plant(ctx, mutant, src, output, condition = "__has_include(\"%s\")" % src.short_path)
            break
    else_needed = mutant == None or not mutant["file"].endswith(".h")
    if else_needed:
        ctx.actions.write(output, "// No header has a planted bug.\n")
    return [DefaultInfo(files = depset([output]))]

planted_header = rule(
    implementation = _planted_header_impl,
    attrs = dict(
        _ATTRS,
        headers = attr.label_list(
            allow_files = True,
            doc = "The headers that mutants change.",
        ),
    ),
    doc = "The header with the bug, or an empty one.",
)

def _is_c(srcs):
    return type(srcs) == "list" and len([src for src in srcs if src.endswith(".c")]) != 0

def planted_srcs(name, srcs):
    """The sources of a library, or their copies.

    Args:
      name: of the library.
      srcs: its sources.

    Returns:
      The value for the attribute `srcs`.
    """
    if not native.package_name().startswith("allocator") or not _is_c(srcs):
        return srcs
    _planted_copies(
        name = name + "_planted",
        folder = name,
        srcs = srcs,
        tags = ["manual"],
        visibility = ["//visibility:private"],
    )
    return select({
        _NONE: srcs,
        "//conditions:default": [":%s_planted" % name],
    })

def planted_textual_hdrs(name, textual_hdrs):
    """The same for sources that others of the library include: found first, being below the folder of the copies.

    Args:
      name: of the library.
      textual_hdrs: its sources of that kind.

    Returns:
      The value for the attribute `textual_hdrs`.
    """
    if not native.package_name().startswith("allocator") or not _is_c(textual_hdrs):
        return textual_hdrs
    _planted_copies(
        name = name + "_planted_textual",
        folder = name,
        only_mutated = True,
        srcs = textual_hdrs,
        tags = ["manual"],
        visibility = ["//visibility:private"],
    )
    return select({
        _NONE: textual_hdrs,
        "//conditions:default": textual_hdrs + [":%s_planted_textual" % name],
    })
