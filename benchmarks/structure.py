"""How the package hangs together: rooms and arrows, the length of functions, and how far a variable travels.

    python benchmarks/structure.py                     # this checkout
    python benchmarks/structure.py PATH                # another one: its folder, or a commit of this repository
    python benchmarks/structure.py --before b2751b0    # beside an older one; writes benchmarks/results/structure.md
    python benchmarks/structure.py --scans PATH        # runs super_resolve: how often are numbers searched for NaN?

All but `--scans` only read the source, by `ast`, and need the standard library alone.

- A **room** is a folder of the package, or a module beside the folders. An **arrow** goes from a room to each other
  that it imports from, once, however often it does. A **circle** is a set of rooms that all reach each other.
- **Length** of a function: its lines without decorators and docstring. **Nested** by k: its deepest statement lies in k
  loops, conditions, `with`s, `try`s or `match`es.
- **Modules that take** a name: a function has a parameter, or a class a field, of that name.
- **Walk** of a variable: into each function of the package that gets it as an argument, and on from there. It stays the
  same variable when it is moved or cut (`.to(…)`, `.split(1)`, `x[0]`, a loop over it), packed (a list, a tuple, `zip`,
  `partial`) or when a field of it is taken; what a function makes of it is something new. A function is found by its
  imported name, a method by its name in the module itself and those it imports; a call through a variable
  (`degrade(x)`) is not followed.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import dataclasses
import datetime
import inspect
import io
import itertools
import statistics
import subprocess
import sys
import tarfile
import tempfile
import tokenize
import unittest.mock
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ctmem.command import forgiving_output

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "structure.md"
NAMES = ("lr_hsi", "ref_msi", "preset")
WALKS = (("super_resolve", "lr_hsi"), ("super_resolve", "ref_msi"), ("main", "preset"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match)
SAME = {"to", "cpu", "cuda", "float", "double", "detach", "clone", "contiguous", "split", "chunk", "items", "values"}
HOLDERS = {"list", "tuple", "zip", "enumerate", "iter", "reversed", "sorted", "partial", "replace"}
DESCRIPTIONS = {"shape", "ndim", "dtype", "device"}  # of a tensor: not the tensor
INTRODUCTION = """What the words mean stands at the top of `benchmarks/structure.py`; again with

    python benchmarks/structure.py --before b2751b0

The walk sees names and no types: it misses what passes through a function held in a variable, and may take a method for
another of the same name. Another count of the state before, by a rule of its own, gave 155 arrows between 40 rooms, and
walks of 11, 10 and 23 modules.

"""


@dataclass
class Module:
    """One file: its dotted name, its source as a tree, and what it imports."""

    name: str
    path: Path
    tree: ast.Module
    imports: dict[str, str] = field(default_factory=dict)  # name in the file → dotted name


@dataclass
class Target:
    """What can be called: a function, a method, or a class by its `__init__` or its fields."""

    module: str
    name: str
    parameters: list[str]
    node: ast.AST
    method: bool


def read_package(folder: Path, package: str = "ctmem") -> dict[str, Module]:
    """Dotted name → module, for every file of the package in a checkout."""
    modules = {}
    for path in sorted((folder / package).rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    for module in modules.values():
        module.imports = dict(imported(module))
    return modules


def imported(module: Module) -> Iterator[tuple[str, str]]:
    """(name in the file, dotted name) of everything that is imported, wherever in the file."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - (module.path.name == "__init__.py")
                base = ".".join([*module.name.split(".")[: -up or None], *filter(None, [node.module])])
            yield from ((alias.asname or alias.name, f"{base}.{alias.name}") for alias in node.names)


# --- rooms and arrows -------------------------------------------------------------------------------------------------


def home(dotted: str, modules: dict[str, Module]) -> str:
    """The module of the package that a dotted name lies in; empty for a name of another package."""
    while dotted and dotted not in modules:
        dotted = dotted.rpartition(".")[0]
    return dotted


def room(name: str) -> str:
    """The room of a module: the second part of its dotted name."""
    return name.split(".")[1] if "." in name else name


def arrows(modules: dict[str, Module]) -> set[tuple[str, str]]:
    """(from, to) between files."""
    pairs = {(name, home(dotted, modules)) for name, module in modules.items() for dotted in module.imports.values()}
    return {(start, end) for start, end in pairs if end and end != start}


def between_rooms(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows between rooms that arrows between files make."""
    return {(room(start), room(end)) for start, end in pairs if room(start) != room(end)}


def circles(pairs: set[tuple[str, str]]) -> list[list[str]]:
    """The sets of two nodes or more that all reach each other."""
    reached: dict[str, set[str]] = collections.defaultdict(set)
    for start, end in pairs:
        reached[start].add(end)
    for through in list(reached):
        for start in list(reached):
            if through in reached[start]:
                reached[start] |= reached[through]
    groups = {frozenset(b for b in reached[a] if a in reached.get(b, ())) for a in list(reached) if a in reached[a]}
    return sorted(sorted(group) for group in groups)


# --- functions --------------------------------------------------------------------------------------------------------


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    """All functions and methods, those inside others, too."""
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


def length(node: ast.FunctionDef) -> int:
    """Lines of a function, without decorators and docstring."""
    lines, first = node.end_lineno - node.lineno + 1, node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return lines - (first.end_lineno - first.lineno + 1 if documented else 0)


def depth(node: ast.AST) -> int:
    """How many blocks lie around the deepest statement; an `elif` is as deep as its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            chained = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
            deepest = max(deepest, depth(child) + (isinstance(child, BLOCKS) and not chained))
    return deepest


def comments(path: Path) -> int:
    """How many comments a file has."""
    with tokenize.open(path) as file:
        return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(file.readline))


def parameters(node: ast.AST) -> list[str]:
    """Names of the parameters of a function in order; of a class, its annotated fields."""
    if isinstance(node, ast.ClassDef):
        fields = [line.target for line in node.body if isinstance(line, ast.AnnAssign)]
        return [target.id for target in fields if isinstance(target, ast.Name)]
    every = [*node.args.posonlyargs, *node.args.args, node.args.vararg, *node.args.kwonlyargs, node.args.kwarg]
    return [argument.arg for argument in every if argument]


def taking(modules: dict[str, Module], name: str) -> set[str]:
    """Modules in which a function takes a parameter of that name, or a class has such a field."""
    kinds = (*FUNCTIONS, ast.ClassDef)
    return {
        module.name
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, kinds) and name in parameters(node)
    }


# --- the walk of a variable -------------------------------------------------------------------------------------------


def targets(modules: dict[str, Module]) -> dict[str, list[Target]]:
    """Name → everything in the package that can be called by it."""
    found: dict[str, list[Target]] = collections.defaultdict(list)
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                made = next(
                    (line for line in node.body if isinstance(line, FUNCTIONS) and line.name == "__init__"), node
                )
                names = [name for name in parameters(made) if name != "self"]
                found[node.name].append(Target(module.name, node.name, names, made, method=False))
            elif isinstance(node, FUNCTIONS):
                names = [name for name in parameters(node) if name not in ("self", "cls")]
                method = len(names) < len(parameters(node))
                found[node.name].append(Target(module.name, node.name, names, node, method))
    return found


def callees(call: ast.Call, module: Module, known: dict[str, list[Target]]) -> list[Target]:
    """What of the package a call may run, by name."""
    function = call.func
    if isinstance(function, ast.Name):
        dotted = module.imports.get(function.id, f"{module.name}.{function.id}")
        named = known.get(dotted.rpartition(".")[2], [])
        return [one for one in named if f"{one.module}.{one.name}" == dotted and not one.method]
    if not isinstance(function, ast.Attribute) or function.attr in SAME:
        return []
    named = known.get(function.attr, [])
    place = module.imports.get(ast.unparse(function.value))
    if place:  # of an imported module
        return [one for one in named if one.module == place and not one.method]
    near = {module.name, *(dotted.rpartition(".")[0] for dotted in module.imports.values())}
    return [one for one in named if one.method and one.module in near]


def carries(node: ast.AST | None, names: set[str]) -> bool:
    """Whether an expression is one of the variables, a part of one, or holds one."""
    match node:
        case ast.Name():
            return node.id in names
        case ast.Attribute():
            return node.attr not in DESCRIPTIONS and carries(node.value, names)
        case ast.Call(func=ast.Attribute(attr=method, value=value)) if method in SAME:
            return carries(value, names)
        case ast.Call(func=ast.Name(id=name)) if name in HOLDERS:
            return any(carries(part, names) for part in node.args)
        case ast.IfExp():
            return carries(node.body, names) or carries(node.orelse, names)
        case ast.Subscript() | ast.Starred() | ast.NamedExpr():
            return carries(node.value, names)
        case ast.Tuple() | ast.List():
            return any(carries(part, names) for part in node.elts)
        case ast.BoolOp() | ast.Dict():
            return any(carries(part, names) for part in node.values)
        case ast.ListComp() | ast.GeneratorExp():
            return carries(node.elt, names)
    return False


def same(function: ast.AST, variable: str) -> set[str]:
    """The names in a function that hold the variable: its own, and those that are assigned or looped from it."""
    names, before = {variable}, 0
    while len(names) > before:
        before = len(names)
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and carries(node.value, names):
                names |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
            elif isinstance(node, ast.For | ast.comprehension) and carries(node.iter, names):
                names |= {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}
    return names


def handed(call: ast.Call, callee: Target) -> Iterator[tuple[str, ast.AST]]:
    """(parameter, expression) of what a call hands to a function."""
    if callee.method and isinstance(call.func, ast.Attribute):
        yield "self", call.func.value
    yield from zip(callee.parameters, call.args)
    yield from ((word.arg, word.value) for word in call.keywords if word.arg in callee.parameters)


def walk(modules: dict[str, Module], function: str, variable: str) -> set[str]:
    """The modules that a variable of a function, such as `super_resolve`, enters as an argument; its own is one."""
    known = targets(modules)
    begin = [
        one for one in known[function] if any(isinstance(n, ast.Name) and n.id == variable for n in ast.walk(one.node))
    ]
    waiting, seen = [(one, variable) for one in begin], set()
    while waiting:
        here, name = waiting.pop()
        if (here.module, here.node, name) in seen:
            continue
        seen.add((here.module, here.node, name))
        if isinstance(here.node, ast.ClassDef):
            continue
        names = same(here.node, name)
        for call in (node for node in ast.walk(here.node) if isinstance(node, ast.Call)):
            for callee in callees(call, modules[here.module], known):
                waiting += [(callee, parameter) for parameter, value in handed(call, callee) if carries(value, names)]
    return {module for module, _, _ in seen}


# --- what is printed --------------------------------------------------------------------------------------------------


def share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)"


def count(names: set[str]) -> str:
    """Modules of that number, in rooms of that number."""
    return f"{len(names)} in {len({room(name) for name in names})} rooms"


def measure(modules: dict[str, Module]) -> dict[str, str]:
    """What is measured → figure."""
    pairs = arrows(modules)
    every = [node for module in modules.values() for node in functions(module.tree)]
    lengths = sorted(map(length, every))
    said = sum(comments(module.path) for module in modules.values())
    figures = {
        "rooms": str(len({room(name) for name in modules if "." in name})),
        "arrows between rooms": str(len(between_rooms(pairs))),
        "circles of rooms": str(len(circles(between_rooms(pairs)))),
        "files": str(len(modules)),
        "arrows between files": str(len(pairs)),
        "circles of files": str(len(circles(pairs))),
        "functions": str(len(every)),
        "length of a function, lines: median / 90th percentile / longest": (
            f"{statistics.median(lengths):.0f} / {lengths[len(lengths) * 9 // 10]} / {lengths[-1]}"
        ),
        "functions nested by 3 or more": share(sum(depth(node) >= 3 for node in every), len(every)),
        "comments per 100 functions": f"{100 * said / len(every):.0f}",
    }
    figures |= {f"modules that take `{name}`": count(taking(modules, name)) for name in NAMES}
    return figures | {
        f"walk of `{name}` from `{function}`, modules": count(walk(modules, function, name)) for function, name in WALKS
    }


@contextlib.contextmanager
def checkout(source: str) -> Iterator[Path]:
    """A folder with the checkout: the folder itself, or for a while the files of a commit of this repository."""
    if Path(source).is_dir():
        yield Path(source)
        return
    packed = subprocess.run(["git", "archive", source], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
        yield Path(folder)


def table(columns: dict[str, dict[str, str]]) -> str:
    """A Markdown table, a column for each checkout."""
    names = list(next(iter(columns.values())))
    rows = [
        ["", *columns],
        ["---"] * (len(columns) + 1),
        *([name, *(c[name] for c in columns.values())] for name in names),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


# --- searches for NaN -------------------------------------------------------------------------------------------------


def scans(folder: Path) -> str:
    """Runs `super_resolve` of a checkout on a small scene with a reference; counts the searches for NaN."""
    sys.path.insert(0, str(folder.resolve()))
    import torch

    from ctmem import inference

    model, generator = inference.load_model("tiny"), torch.Generator().manual_seed(0)
    lr_hsi, ref_msi = (torch.rand(1, *shape, generator=generator) for shape in ((31, 16, 20), (4, 64, 80)))
    srf = torch.rand(4, 31, generator=generator).softmax(1)
    takes_camera = "camera" in inspect.signature(inference.super_resolve).parameters
    options = {"camera": dataclasses.replace(model.camera, srf=srf)} if takes_camera else {"srf": srf}
    searched: collections.Counter[tuple[int, int]] = collections.Counter()  # by place in memory and size
    numbers: collections.Counter[int] = collections.Counter()  # by storage: pieces of an image add up to the whole
    kept = []  # so that no memory is used twice

    with contextlib.ExitStack() as stack:
        for owner, name in itertools.product((torch, torch.Tensor), ("isfinite", "isnan", "isinf", "aminmax")):
            original = getattr(owner, name)

            def search(x: torch.Tensor, original: Callable = original) -> torch.Tensor:
                if x.numel() > 2:  # not the two numbers that `aminmax` has found
                    kept.append(x)
                    searched[x.data_ptr(), x.numel()] += 1
                    numbers[x.untyped_storage().data_ptr()] += x.numel()
                return original(x)

            stack.enter_context(unittest.mock.patch.object(owner, name, search))
        inference.super_resolve(model, lr_hsi, ref_msi, **options)
    watched = {"lr_hsi": lr_hsi, "ref_msi": ref_msi}
    times = {name: numbers[x.untyped_storage().data_ptr()] / x.numel() for name, x in watched.items()}
    named = ", ".join(f"`{name}` {count:.0f}" for name, count in times.items())
    most = max(searched.values(), default=0)
    return f"{searched.total()} of {len(searched)} tensors, each at most {most} time(s) ({named})"


def main() -> None:
    """Reads the command line, prints, and writes where two checkouts were compared."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", nargs="?", default=str(ROOT), help="folder of a checkout, or a commit (this checkout)")
    parser.add_argument("--before", help="another one, to stand beside it")
    parser.add_argument("--scans", action="store_true", help="run super_resolve and count searches for NaN")
    options = parser.parse_args()
    if options.scans:
        with checkout(options.path) as folder:
            print(scans(folder))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Prints the table of one checkout, or writes that of two."""
    sources = {"before": options.before, "after": options.path} if options.before else {"figure": options.path}
    columns = {}
    for label, source in sources.items():
        with checkout(source) as folder:
            columns[label] = measure(read_package(folder))
            if options.before:
                command = [sys.executable, __file__, "--scans", str(folder)]
                ran = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
                columns[label]["searches for NaN by one `super_resolve`"] = ran.stdout.strip()
    text = table(columns)
    print(text)
    if options.before:
        describe = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(describe, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout.strip()
        title = f"# Structure\n\n{datetime.date.today()}, commit {commit}; before: {options.before}.\n\n"
        RESULT.write_text(title + INTRODUCTION + text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
