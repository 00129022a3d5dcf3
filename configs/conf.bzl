# SPDX-License-Identifier: Apache-2.0
"""The settings of a build, //configs:conf, as a header.

    load("//configs:conf.bzl", "conf_header")
"""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")

# A C string literal may contain ASCII from blank to tilde, except these characters. '?' could begin a trigraph.
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
