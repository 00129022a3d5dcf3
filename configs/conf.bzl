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

# Settings with mistakes, for the tests of programs that report them: the only ones that are not checked.
# They have all characters that would end a string in C or have a special meaning in it.
CONF_WITH_MISTAKES = "profile=lean keep_superslabs=9,HAKMEM_BORROW=0 thp=\"o\\n\"??/'$x' bogus"

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

    # Most builds have no settings, and need no tool.
    checked = ctx.attr.check and conf.strip() != ""
    written = ctx.actions.declare_file(ctx.label.name + ".unchecked") if checked else header
    ctx.actions.write(
        output = written,
        content = "// SPDX-License-Identifier: Apache-2.0\n#define HAK_BUILD_CONF \"%s\"\n" % text,
    )
    if checked:
        ctx.actions.run(
            executable = ctx.executable.checker,
            arguments = [conf, written.path, header.path],
            inputs = [written],
            outputs = [header],
            mnemonic = "CheckConf",
            progress_message = "Checking %s" % ctx.attr.conf.label,
        )
    return [DefaultInfo(files = depset([header]))]

conf_header = rule(
    implementation = _conf_header_impl,
    attrs = {
        "check": attr.bool(
            default = True,
            doc = "Whether settings that are not accepted fail the build.",
        ),
        "checker": attr.label(
            mandatory = True,
            executable = True,
            cfg = "exec",
            doc = "allocator/gate/check_conf.c.",
        ),
        "conf": attr.label(
            mandatory = True,
            providers = [BuildSettingInfo],
            doc = "The build setting.",
        ),
    },
    doc = "A header that defines HAK_BUILD_CONF as the string that the build setting holds.",
)
