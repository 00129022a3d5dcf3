# SPDX-License-Identifier: Apache-2.0
"""The settings that a build gives its allocator: //configs:conf, as a header.

    load("//configs:conf.bzl", "conf_file", "conf_header")
"""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")

# What a string literal of C may hold as it stands: ASCII from blank to tilde but for these. '?' could begin a trigraph.
_PLAIN = " !#$%&'()*+,-./0123456789:;<=>@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~"
_ESCAPED = "\"\\?"

# HAK_CONF_LENGTH_MAX of allocator/gate/conf.h.
_LENGTH_MAX = 4096

def _conf_header_impl(ctx):
    conf = ctx.attr.conf[BuildSettingInfo].value
    if len(conf) > _LENGTH_MAX:
        fail("%s has %d characters; the most are %d" % (ctx.attr.conf.label, len(conf), _LENGTH_MAX))
    text = ""
    for i in range(len(conf)):
        if conf[i] in _ESCAPED:
            text += "\\"
        elif conf[i] not in _PLAIN:
            fail("%s holds a character other than those of ASCII between blank and tilde: \"%s\"" % (ctx.attr.conf.label, conf))
        text += conf[i]
    header = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.write(
        output = header,
        content = "// SPDX-License-Identifier: Apache-2.0\n#define HAK_BUILD_CONF \"%s\"\n" % text,
    )
    return [DefaultInfo(files = depset([header]))]

conf_header = rule(
    implementation = _conf_header_impl,
    attrs = {
        "conf": attr.label(
            mandatory = True,
            providers = [BuildSettingInfo],
            doc = "The build setting.",
        ),
    },
    doc = "A header that defines HAK_BUILD_CONF as the string that the build setting holds.",
)

# ---- Building with other settings ------------------------------------------------------------------------------------

_CONF_FLAG = str(Label("//configs:conf"))
_PROFILE_FLAG = str(Label("//configs:profile"))

def _to_conf_impl(_settings, attr):
    return {
        _CONF_FLAG: attr.conf,
        _PROFILE_FLAG: attr.profile,
    }

_to_conf = transition(
    implementation = _to_conf_impl,
    inputs = [],
    outputs = [
        _CONF_FLAG,
        _PROFILE_FLAG,
    ],
)

def _conf_file_impl(ctx):
    # An attribute with a transition holds a list, even when it names one label.
    src = ctx.attr.src[0] if type(ctx.attr.src) == "list" else ctx.attr.src
    output = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(
        output = output,
        target_file = src[DefaultInfo].files_to_run.executable,
        is_executable = True,
    )

    # Not what `src` would have beside it at run time: its own file is among that, under the name that it also has when it
    # is built without our settings.
    return [DefaultInfo(
        executable = output,
        files = depset([output]),
        runfiles = ctx.runfiles(files = [output]),
    )]

conf_file = rule(
    implementation = _conf_file_impl,
    executable = True,
    attrs = {
        "conf": attr.string(doc = "What //configs:conf is."),
        "profile": attr.string(
            default = "standard",
            doc = "The profile to build `src` under.",
        ),
        "src": attr.label(
            mandatory = True,
            executable = True,
            cfg = _to_conf,
            doc = "A program that needs no other file to run.",
        ),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
    doc = "One program, built with the given //configs:conf and profile whatever the command line says.",
)
