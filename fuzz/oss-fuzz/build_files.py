# SPDX-License-Identifier: Apache-2.0
"""Reads BUILD.bazel and .bzl files without Bazel, for the part of their language that this repository uses.

The image in which OSS-Fuzz builds has no Bazel, and a second list of sources would soon differ from the first. The
language of these files is a subset of Python, so they run as Python, with rules that only record their arguments.
//fuzz:build_files_test compares the result with Bazel's own answer."""
import ast
import pathlib


class BuildFileError(Exception):
    """A BUILD file that cannot be read, or a label without a target or file."""


class Select:
    """The result of select(), and lists with such parts. Workspace.resolve makes a plain value of it."""

    def __init__(self, parts):
        self.parts = parts

    def __add__(self, other):
        return Select(self.parts + (other.parts if isinstance(other, Select) else [other]))

    def __radd__(self, other):
        return Select([other] + self.parts)


class _Anything:
    """Replaces what only Bazel itself needs: attr, transition, providers."""

    def __call__(self, *_args, **_kwargs):
        return self

    def __getattr__(self, _name):
        return self

    def __getitem__(self, _key):
        return self


class Target:
    """One call of a rule: the attributes as given, including selects."""

    def __init__(self, package, rule, attributes):
        self.package = package
        self.rule = rule
        self.name = attributes["name"]
        self.attributes = attributes
        self.label = "//%s:%s" % (package, self.name)


class _Native:
    """The rules and functions of a BUILD file, recorded in the package that is being read."""

    def __init__(self, workspace):
        self._workspace = workspace

    def glob(self, include, exclude=(), **_kwargs):
        workspace = self._workspace
        folder = workspace.root / workspace.reading
        found = {path for pattern in include for path in folder.glob(pattern) if path.is_file()}
        found -= {path for pattern in exclude for path in folder.glob(pattern)}
        return sorted(path.relative_to(folder).as_posix() for path in found)

    def package_name(self):
        return self._workspace.reading

    def existing_rules(self):
        targets = self._workspace.packages[self._workspace.reading]
        return {name: dict(target.attributes, kind=target.rule) for name, target in targets.items()}

    def __getattr__(self, rule):
        return self._workspace.recorder(rule)


# What only Bazel has, or Python has in another form. The other functions are the same in Python.
_NOT_STARLARK = ("exec", "eval", "open", "__import__", "input", "compile", "globals", "locals")


class Workspace:
    """The targets of a source tree, for given values of its build settings."""

    def __init__(self, root, flags):
        """flags: {"//fuzz:engine": "external", ...}; other settings have their default."""
        self.root = pathlib.Path(root)
        self.flags = dict(flags)
        self.packages = {}
        self.reading = None
        self._modules = {}
        for flag in self.flags:
            self.target(flag)

    # ---- Labels --------------------------------------------------------------------------------------------------

    def absolute(self, label, package):
        """`label`, as written in `package`, as //package:name."""
        if label.startswith("@"):
            raise BuildFileError("%s: other repositories cannot be read (in //%s)" % (label, package))
        if label.startswith("//"):
            path, colon, name = label[2:].partition(":")
            return "//%s:%s" % (path, name if colon else path.rpartition("/")[2])
        return "//%s:%s" % (package, label.lstrip(":"))

    def target(self, label):
        """The target of an absolute label; None: the label names a file."""
        package, _, name = label[2:].partition(":")
        target = self.package(package).get(name)
        if target is None and not (self.root / package / name).is_file():
            raise BuildFileError("%s: no such target and no such file" % label)
        return target

    def package(self, package):
        if package not in self.packages:
            self.packages[package] = {}
            outer, self.reading = self.reading, package
            try:
                self._run(self.root / package / "BUILD.bazel", package, self.recorder)
            finally:
                self.reading = outer
        return self.packages[package]

    # ---- Running a file ------------------------------------------------------------------------------------------

    def recorder(self, rule):
        def record(*_args, **attributes):
            if "name" in attributes:
                target = Target(self.reading, rule, attributes)
                self.packages[self.reading][target.name] = target

        return record

    def _run(self, path, package, unknown):
        """Runs a file. `unknown` returns the value of an undefined name."""
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise BuildFileError("%s: %s" % (path, error.strerror)) from error
        except SyntaxError as error:
            raise BuildFileError("%s: syntax error: %s" % (path, error)) from error
        names = {}
        python = __builtins__ if isinstance(__builtins__, dict) else vars(__builtins__)
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and (node.id not in python or node.id in _NOT_STARLARK):
                names[node.id] = unknown(node.id)
        native = _Native(self)
        names.update(
            fail=self._fail,
            glob=native.glob,
            Label=lambda label: self.absolute(label, package),
            load=lambda label, *symbols, **renamed: self._load(names, label, package, symbols, renamed),
            native=native,
            rule=lambda **_kwargs: self.recorder("rule"),
            select=lambda options, **_kwargs: Select([options]),
            struct=_Anything(),
            type=lambda value: {str: "string"}.get(type(value), type(value).__name__),
        )
        try:
            exec(compile(tree, str(path), "exec"), names)  # pylint: disable=exec-used
        except BuildFileError:
            raise
        except Exception as error:
            raise BuildFileError("%s: %s: %s" % (path, type(error).__name__, error)) from error
        return names

    @staticmethod
    def _fail(*message):
        raise BuildFileError(" ".join(map(str, message)))

    def _load(self, names, label, package, symbols, renamed):
        wanted = dict({symbol: symbol for symbol in symbols}, **renamed)
        if label.startswith("@"):
            # Only build settings and similar rules come from there, of which only the arguments are needed.
            names.update((here, self.recorder(there)) for here, there in wanted.items())
            return
        label = self.absolute(label, package)
        if label not in self._modules:
            folder, _, name = label[2:].partition(":")
            self._modules[label] = self._run(self.root / folder / name, folder, lambda _name: _Anything())
        for here, there in wanted.items():
            if there not in self._modules[label]:
                raise BuildFileError("%s has no %s" % (label, there))
            names[here] = self._modules[label][there]

    # ---- Values of attributes --------------------------------------------------------------------------------------

    def _holds(self, label):
        """Whether a config_setting matches."""
        setting = self.target(label)
        if setting is None or setting.rule != "config_setting":
            raise BuildFileError("%s: not a config_setting" % label)
        # Only the compilation mode is selected in this way, and the shipped build is optimised.
        if any(wanted != {"compilation_mode": "opt"}.get(option) for option, wanted in
               setting.attributes.get("values", {}).items()):
            return False
        for flag, wanted in setting.attributes.get("flag_values", {}).items():
            flag = self.absolute(flag, setting.package)
            value = self.flags.get(flag, self.target(flag).attributes["build_setting_default"])
            if str(value) != str(wanted):
                return False
        return True

    def resolve(self, target, attribute):
        """The attribute's value, a list, with every select replaced by its value."""
        value = target.attributes.get(attribute, [])
        result = []
        for part in value.parts if isinstance(value, Select) else [value]:
            if isinstance(part, dict):
                part = self._choose(target, part)
            result += [part] if isinstance(part, str) else list(part)
        return result

    def _choose(self, target, options):
        for condition, value in options.items():
            if condition != "//conditions:default" and self._holds(self.absolute(condition, target.package)):
                return value
        if "//conditions:default" not in options:
            raise BuildFileError("%s: no condition of a select holds: %s" % (target.label, ", ".join(options)))
        return options["//conditions:default"]

    def closure(self, label):
        """The target of the label and everything from which it is built: [Target], each once, the label's own first."""
        order, waiting, seen = [], [label], set()
        while waiting:
            label = waiting.pop(0)
            if label in seen:
                continue
            seen.add(label)
            target = self.target(label)
            if target is None:
                raise BuildFileError("%s: a file among deps" % label)
            order.append(target)
            for attribute in ("deps", "dep", "actual", "implementation_deps"):
                waiting += [self.absolute(dep, target.package) for dep in self.resolve(target, attribute)]
        return order
