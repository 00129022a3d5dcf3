# SPDX-License-Identifier: Apache-2.0
"""A test that another test passes within so much memory.

    load("@hakmem//configs:limit_test.bzl", "hakmem_limit")

    hakmem_limit(
        test = ":parser_test",
        mb = 64,
    )

makes the test :parser_test_within_64mb: the program of :parser_test, on hakmem, with HAKMEM_MEMORY_LIMIT_MB=64. Beyond the limit
malloc returns NULL and operator new throws. The limit is on what hakmem holds at any moment, so on the peak, with
hakmem's own records.
"""

def _quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"

_SCRIPT = """#!/bin/sh
if [ {is_fast} = True ]; then
  echo 'FAILED: FAST has no memory limit; use another @hakmem//configs:profile'
  exit 1
fi
# A limit that nothing heeds would let every test pass.
{checker} {test} || exit 1
HAKMEM_MEMORY_LIMIT_MB={mb} {test} "$@"
status=$?
if [ $status -ne 0 ]; then
  echo {name}" failed with status $status within {mb} MiB. If it passes without the limit, it needs more."
fi
exit $status
"""

def _hakmem_limit_test_impl(ctx):
    script = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.write(
        output = script,
        content = _SCRIPT.format(
            checker = _quoted(ctx.executable._checker.short_path),
            is_fast = ctx.attr.is_fast,
            mb = ctx.attr.mb,
            name = _quoted(str(ctx.attr.test.label)),
            test = _quoted(ctx.executable.test.short_path),
        ),
        is_executable = True,
    )
    runfiles = ctx.runfiles(files = [ctx.executable._checker, ctx.executable.test])
    runfiles = runfiles.merge(ctx.attr.test[DefaultInfo].default_runfiles)
    return [DefaultInfo(executable = script, runfiles = runfiles)]

_hakmem_limit_test = rule(
    implementation = _hakmem_limit_test_impl,
    test = True,
    attrs = {
        "is_fast": attr.bool(doc = "Whether the build is in FAST, which has no limit."),
        "mb": attr.int(mandatory = True),
        "test": attr.label(
            mandatory = True,
            executable = True,
            cfg = "target",
        ),
        "_checker": attr.label(
            default = Label("//packaging/run:in_use"),
            executable = True,
            cfg = "exec",
        ),
    },
    doc = "See hakmem_limit.",
)

def hakmem_limit(test, mb = 64, name = None, **kwargs):
    """A test that runs the program of `test` with a memory limit.

    It fails if that program fails, if it is not on hakmem, and in FAST, which has no limit.

    Args:
      test: label of a cc_test or cc_binary whose malloc is hakmem. Its own attributes `args`, `env` and `data` hold as for a
        cc_test of the same program: `data` is there, `args` and `env` are to be given again.
      mb: the limit in MiB.
      name: of the test; TEST_within_MBmb if it is not given.
      **kwargs: attributes of every test: size, tags, args, ...
    """
    if mb < 1:
        fail("hakmem_limit: mb is %s, not a number of MiB" % mb)
    _hakmem_limit_test(
        name = name or "%s_within_%dmb" % (test.rpartition(":")[2].rpartition("/")[2], mb),
        is_fast = select({
            str(Label("//configs:profile_fast")): True,
            "//conditions:default": False,
        }),
        mb = mb,
        test = test,
        **kwargs
    )
