"""How the package hangs together: rooms and arrows, the length of functions, and how far a variable travels.

    python benchmarks/structure.py                     # this checkout
    python benchmarks/structure.py PATH                # another one
    python benchmarks/structure.py --before OLD PATH   # two side by side, as Markdown
    python benchmarks/structure.py --scans             # runs super_resolve, and counts how often tensors are searched for NaN

Everything but `--scans` only reads the source, by `ast`, and needs the standard library alone.

- A **room** is a folder of the package or a module at its top. An **arrow** goes from a room to another that it imports from,
  once, however often it does. A **circle** is a set of rooms that can all be reached from each other.
- **Length** of a function: its lines without the docstring. **Nested** by k: a statement inside k loops, conditions, `with`
  or `try`, counted from the function that holds it.
- **Modules with a parameter**: those in which a function or a dataclass takes one of that name.
- **Walk**: from a variable in one function the walk goes into each function of the package that gets it as an argument, and on
  from there. A name that is assigned from the variable is the same variable, unless a function of the package is called in
  between: what that returns is something new. Functions are found by their name; where several have it, those that the module
  imports or defines win. What the walk enters is counted in modules.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = ("lr_hsi", "ref_msi", "preset")
WALKS = (("super_resolve", "lr_hsi"), ("super_resolve", "ref_msi"), ("main", "preset"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)


@dataclass
class Callable_:
    """A function, a method, or a class that is made by calling it."""

    module: str
    name: str
    parameters: list[str]
    node: ast.AST

    @property
    def key(self) -> tuple[str, int]:
        """Where it stands."""
        return self.module, self.node.lineno


@dataclass
class Module:
    """One file: its dotted name, its source as a tree, and the names it imports from the package."""

    name: str
    path: Path
    tree: ast.Module
    imports: dict[str, str] = field(default_factory=dict)  # name in the file → dotted name


def read_package(folder: Path, package: str = "ctmem") -> dict[str, Module]:
    """Returns dotted name → module for every file of the package in a checkout."""
    modules = {}
    for path in sorted((folder / package).rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    for module in modules.values():
        module.imports = dict(imported(module))
    return modules


def imported(module: Module) -> Iterator[tuple[str, str]]:
    """Yields (name in the file, dotted name) of everything that is imported, wherever in the file."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.name.split(".")[: -node.level or None] if module.path.name != "__init__.py" else [module.name]
            base = [*above, node.module or ""] if node.level else [node.module or ""]
            for alias in node.names:
                yield alias.asname or alias.name, ".".join(part for part in (*base, alias.name) if part)


# --- rooms and arrows ----------------------------------------------------------------------------------------------------


def home(dotted: str, modules: dict[str, Module]) -> str | None:
    """The module of the package that a dotted name lies in, None for a name of another package."""
    while dotted and dotted not in modules:
        dotted = dotted.rpartition(".")[0]
    return dotted or None


def room(name: str) -> str:
    """The room of a module: the second part of its dotted name."""
    return name.split(".")[1] if "." in name else name


def arrows(modules: dict[str, Module], *, rooms: bool) -> set[tuple[str, str]]:
    """Returns (from, to) between files, or between rooms."""
    pairs = set()
    for module in modules.values():
        for dotted in module.imports.values():
            target = home(dotted, modules)
            pair = (module.name, target or module.name)
            pairs.add((room(pair[0]), room(pair[1])) if rooms else pair)
    return {(start, end) for start, end in pairs if start != end}


def circles(pairs: set[tuple[str, str]]) -> list[list[str]]:
    """Returns the sets of nodes that reach each other, of two nodes or more."""
    reached: dict[str, set[str]] = {start: {end for begin, end in pairs if begin == start} for start, _ in pairs}
    for through in list(reached):
        for start in reached:
            if through in reached[start]:
                reached[start] |= reached[through]
    groups = {frozenset(b for b in reached[a] if a in reached.get(b, ())) for a in reached if a in reached[a]}
    return sorted(sorted(group) for group in groups)


# --- functions -----------------------------------------------------------------------------------------------------------


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    """All functions and methods, those inside others, too."""
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


def length(node: ast.FunctionDef) -> int:
    """Lines of a function, without decorators and docstring."""
    documented = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
    return node.end_lineno - node.lineno + 1 - (node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0)


def depth(node: ast.AST) -> int:
    """How many blocks lie around the deepest statement; `elif` is no deeper than its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        chained = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        deepest = max(deepest, depth(child) + (isinstance(child, BLOCKS) and not chained))
    return deepest


def comments(path: Path) -> int:
    """How many comments a file has."""
    with tokenize.open(path) as file:
        return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(file.readline))


def parameters(node: ast.AST) -> list[str]:
    """Names of the parameters of a function in order; of a class, its annotated fields."""
    if isinstance(node, ast.ClassDef):
        return [line.target.id for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)]
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return [argument.arg for argument in every if argument]


def taking(modules: dict[str, Module], name: str) -> set[str]:
    """Modules in which a function takes a parameter of that name, or a class has such a field."""
    return {
        module.name
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and name in parameters(node)
    }


# --- the walk of a variable ----------------------------------------------------------------------------------------------


def callables(modules: dict[str, Module]) -> dict[str, list[Callable_]]:
    """Returns name → what can be called by it, anywhere in the package; a class by its `__init__` or its fields."""
    found: dict[str, list[Callable_]] = {}
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                made = next((line for line in node.body if isinstance(line, FUNCTIONS) and line.name == "__init__"), node)
                names = parameters(made)[made is not node :]
                found.setdefault(node.name, []).append(Callable_(module.name, node.name, names, made))
            elif isinstance(node, FUNCTIONS):
                names = [name for name in parameters(node) if name not in ("self", "cls")]
                found.setdefault(node.name, []).append(Callable_(module.name, node.name, names, node))
    return found


def callees(call: ast.Call, module: Module, known: dict[str, list[Callable_]]) -> list[Callable_]:
    """What a call may run: by name, the module's own and imported ones first."""
    function = call.func
    if isinstance(function, ast.Name):
        dotted = module.imports.get(function.id, f"{module.name}.{function.id}")
        candidates = known.get(dotted.rpartition(".")[2], [])
        return [one for one in candidates if f"{one.module}.{one.name}" == dotted] or (
            candidates if function.id in module.imports and dotted.startswith("ctmem") else []
        )
    if isinstance(function, ast.Attribute):
        candidates = known.get(function.attr, [])
        place = module.imports.get(function.value.id) if isinstance(function.value, ast.Name) else None
        return [one for one in candidates if one.module == place] or candidates
    return []


def mentions(node: ast.AST, names: set[str], module: Module, known: dict[str, list[Callable_]]) -> bool:
    """Whether an expression carries one of the variables, and not what a function of the package made of it."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Call) and callees(node, module, known):
        return False
    if isinstance(node, ast.Compare):
        return False
    if isinstance(node, ast.Attribute):
        return False
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return any(mentions(part, names, module, known) for part in (node.func.value, *node.args, *(k.value for k in node.keywords)))
    return any(mentions(child, names, module, known) for child in ast.iter_child_nodes(node))


def targets(node: ast.AST) -> set[str]:
    """Names that an assignment sets."""
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def carriers(node: ast.AST, name: str, module: Module, known: dict[str, list[Callable_]]) -> set[str]:
    """Names in a function that hold the variable: itself, and what is assigned or looped from it."""
    names, size = {name}, 0
    while len(names) > size:
        size = len(names)
        for child in ast.walk(node):
            if isinstance(child, ast.Assign) and mentions(child.value, names, module, known):
                for target in child.targets:
                    names |= targets(target)
            elif isinstance(child, ast.For | ast.comprehension) and mentions(child.iter, names, module, known):
                names |= targets(child.target)
    return names


def walk(modules: dict[str, Module], function: str, name: str) -> set[str]:
    """Returns the modules that a variable enters as an argument, from all functions of that name, their own among them."""
    known = callables(modules)
    waiting = [(start, name) for start in known.get(function, []) if name in targets(start.node) | set(start.parameters)]
    seen = set()
    while waiting:
        place, variable = waiting.pop()
        if (place.key, variable) in seen:
            continue
        seen.add((place.key, variable))
        if isinstance(place.node, ast.ClassDef):
            continue
        module = modules[place.module]
        names = carriers(place.node, variable, module, known)
        for call in (node for node in ast.walk(place.node) if isinstance(node, ast.Call)):
            for callee in callees(call, module, known):
                positional = zip(callee.parameters, call.args)
                keyword = ((word.arg, word.value) for word in call.keywords if word.arg in callee.parameters)
                for parameter, value in (*positional, *keyword):
                    if mentions(value, names, module, known):
                        waiting.append((callee, parameter))
    return {module for (module, _), _ in seen}
