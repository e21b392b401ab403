"""What a .cu file says about its kernels, and its text with the shared memory as C++ can take it."""

import re
from dataclasses import dataclass
from pathlib import Path

KERNEL = re.compile(
    r"(?://[ ]*instances:(?P<instances>[^\n]*)\n\s*)?"
    r"(?P<template>template\s*<(?P<template_parameters>[^<>]*)>\s*)?"
    r"__global__\s+void\s+(?:__launch_bounds__\s*\((?P<bounds>[^()]*)\)\s*)?(?P<name>\w+)\s*\("
)
SHARED = re.compile(
    r"^(?P<indent>[ \t]*)(?P<extern>extern\s+)?__shared__\s+(?:__align__\((?P<align>\d+)\)\s+)?"
    r"(?P<type>[\w:]+(?:[ ]+\w+)*)\s+(?P<name>\w+)\s*(?P<sizes>(?:\[[^\[\]]*\]\s*)*);",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Kernel:
    """A kernel as its source declares it. instances: "<float>", "<double>", ...; [""] if it is no template."""

    name: str
    instances: list[str]
    parameters: list[str]
    most_threads: int | None  # in a block, where __launch_bounds__ says so with a plain number

    def may_be_null(self, parameter: int) -> bool:
        """Whether the comment of a pointer says, like `const T* bias /* O or null */`, that there may be none."""
        return bool(re.search(r"\*[^/]*/\*.*\bor null\s*\*/", self.parameters[parameter]))


def kernels(source: Path) -> list[Kernel]:
    """All kernels of a .cu file.

    Raises ValueError if a kernel is written in a way that this does not see, or is a template of which it cannot tell
    the instances.
    """
    text = re.sub(r"//(?! *instances:).*", "", source.read_text(encoding="utf-8"))
    found = list(KERNEL.finditer(text))
    names = [kernel["name"] for kernel in found]
    if len(found) != text.count("__global__"):
        raise ValueError(
            f"{source.name}: expected kernels as `__global__ void name(`, or a template before it; "
            f"of {text.count('__global__')} I understand {names}"
        )
    if sum(kernel["instances"] is not None for kernel in found) != len(re.findall("// *instances:", text)):
        raise ValueError(f"{source.name}: a line `// instances: ...` does not stand directly above a kernel's template")
    result = []
    for kernel in found:
        bounds = (kernel["bounds"] or "").split(",")[0].strip()
        parameters = _parameters(text[kernel.end() :])
        most_threads = int(bounds) if bounds.isdigit() else None
        result.append(Kernel(kernel["name"], _instances(source, kernel), parameters, most_threads))
    return result


def kernel_names(source: Path) -> list[str]:
    """The name expressions of all kernels in a .cu file: ["im2col<float>", "max_pool<float, 3>", ...].

    Raises ValueError as `kernels` does.
    """
    return [kernel.name + instance for kernel in kernels(source) for instance in kernel.instances]


def _instances(source, kernel):
    listed = [instance.strip() for instance in (kernel["instances"] or "").split(";") if instance.strip()]
    if not kernel["template"]:
        if listed:
            raise ValueError(f"{source.name}: {kernel['name']} has a line of instances and is no template")
        return [""]
    if listed:
        if not all(re.fullmatch("<[^<>]+>", instance) for instance in listed):
            raise ValueError(f"{source.name}: {kernel['name']}: expected instances <..>; <..>, got {listed}")
        return listed
    if kernel["template_parameters"].strip() != "typename T":
        raise ValueError(
            f"{source.name}: {kernel['name']} is a template <{kernel['template_parameters']}>: "
            "expected a line `// instances: <..>; <..>` directly above it"
        )
    return ["<float>", "<double>"]


def _parameters(text):
    """The parameters at the start of `text`, up to the closing parenthesis, each with its comment."""
    parameters, depth = [""], 0
    for token in re.findall(r"/\*.*?\*/|[^(),/]+|.", text, re.DOTALL):
        if token == ")" and depth == 0:
            break
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token == "," and depth == 0:
            parameters.append("")
        else:
            parameters[-1] += token
    return [parameter.strip() for parameter in parameters if parameter.strip()]


def for_cpu(source: Path) -> str:
    """The text of a .cu or .cuh file with its declarations of shared memory as shared.h wants them, lines unchanged.

    Raises ValueError for a declaration that this does not understand.
    """
    text = SHARED.sub(_declaration, source.read_text(encoding="utf-8"))
    code = re.sub(r"//[^\n]*|/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), text, flags=re.DOTALL)
    for number, line in enumerate(code.splitlines(), 1):
        if "__shared__" in line:
            raise ValueError(
                f"{source.name}, line {number}: expected `__shared__ T name[..];` or "
                f"`extern __shared__ T name[];` alone in its line, got {line.strip()}"
            )
    return f'#line 1 "{source.as_posix()}"\n{text}\n'


def _declaration(shared):
    indent, type_, name = shared["indent"], shared["type"], shared["name"]
    if shared["extern"]:
        align = shared["align"] or ""
        return f"{indent}{type_}* const {name} = cuda_on_cpu::dynamic_shared<{type_}>({align});"
    align = f", {shared['align']}" if shared["align"] else ""
    key = f"{name}_declaration"  # one per instance of a template, as the array is
    return (
        f"{indent}static const char {key} = 0; "
        f"auto& {name} = cuda_on_cpu::shared_array<{type_}{shared['sizes']}>(&{key}{align});"
    )
