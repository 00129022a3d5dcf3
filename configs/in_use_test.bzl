# SPDX-License-Identifier: Apache-2.0
"""A test that a program uses hakmem's malloc.

    load("@hakmem//configs:in_use_test.bzl", "hakmem_in_use_test")

    hakmem_in_use_test(
        name = "server_in_use_test",
        binary = ":server",
    )

Bazel accepts any library as malloc, and one without a malloc silently leaves the C library's. The test examines the
file of the program and does not run it.
"""

def _quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"

def _hakmem_in_use_test_impl(ctx):
    script = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.write(
        output = script,
        content = "#!/bin/sh\nexec %s %s\n" % (
            _quoted(ctx.executable._checker.short_path),
            _quoted(ctx.executable.binary.short_path),
        ),
        is_executable = True,
    )
    runfiles = ctx.runfiles(files = [ctx.executable._checker, ctx.executable.binary])
    return [DefaultInfo(executable = script, runfiles = runfiles)]

hakmem_in_use_test = rule(
    implementation = _hakmem_in_use_test_impl,
    test = True,
    attrs = {
        "binary": attr.label(
            mandatory = True,
            executable = True,
            cfg = "target",
            doc = "A cc_binary, a cc_test, or what another rule builds as one ELF file.",
        ),
        # Of the machine that runs the build: it examines programs for any processor.
        "_checker": attr.label(
            default = Label("//packaging/run:in_use"),
            executable = True,
            cfg = "exec",
        ),
    },
    doc = "Fails if the malloc of `binary` is not hakmem's, and names the reason.",
)
