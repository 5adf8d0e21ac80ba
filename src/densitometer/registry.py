"""Registries: mappings from names to objects that import an object only when it is used.

A registry maps a name to ``"module:attribute"``. Listing names, or describing one, only reads
source text, so that ``densitometer --help`` needs neither JAX nor a second list of what exists.
What a class inherits is read from the source of its bases, if these belong to its own package or
to this one.
"""

import ast
import contextlib
import dataclasses
import difflib
import functools
import importlib
import importlib.machinery
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densitometer.domains import Domain
from densitometer.errors import UsageError

_Definition = ast.ClassDef | ast.FunctionDef


@dataclasses.dataclass(frozen=True)
class Field:
    """One hyper-parameter as its source states it: name, annotation, default, docstring."""

    name: str
    annotation: str
    default: Any
    doc: str

    @property
    def domain(self) -> Domain:
        """The values that the annotation allows."""
        return Domain.from_source(self.annotation)


class Registry(Mapping[str, Any]):
    """A lazy mapping from names to the objects they stand for.

    Args:
        kind: what a member is called in messages ("family").
        plural: what several are called ("families").
        members: name -> ``"module:attribute"``.
    """

    def __init__(self, kind: str, plural: str, members: dict[str, str]):
        self.kind = kind
        self.plural = plural
        self._members = dict(members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> Any:
        module, attribute = self._members[self.check(name)].split(":")
        return getattr(importlib.import_module(module), attribute)

    def check(self, name: str) -> str:
        """Return `name` if it is a member.

        Raises:
            UsageError: it is not; the sentence names the nearest member.
        """
        if name in self._members:
            return name
        near = difflib.get_close_matches(name, self._members, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(self)}."
        raise UsageError(f"there is no {self.kind} '{name}'; {hint}")

    def summary(self, name: str) -> str:
        """The first line of the member's docstring, else of its nearest base's."""
        docs = (ast.get_docstring(definition) for definition in reversed(self._lineage(name)))
        return next((doc.split("\n")[0] for doc in docs if doc), "")

    def fields(self, name: str) -> list[Field]:
        """The annotated fields of a member that is a dataclass.

        As in the class itself, those of its bases come first, and one that is redefined keeps its
        place.
        """
        fields: dict[str, Field] = {}
        for definition in self._lineage(name):
            fields |= _fields(definition, fields)
        return [field for field in fields.values() if field.default is not dataclasses.MISSING]

    def facts(self, name: str) -> dict[str, Any]:
        """The class attributes of a member that are literals, such as its `label` or `papers`."""
        facts: dict[str, Any] = {}
        for definition in self._lineage(name):
            facts |= _facts(definition)
        return facts

    def label(self, name: str) -> str:
        """The name of a member in text and figures: the `label` that its class states.

        It is the registered name if there is no label, or if an earlier member, such as a base
        class, has the same.
        """
        label = self.facts(name).get("label")
        first = next(member for member in self if self.facts(member).get("label") == label)
        return label if label and first == name else name

    def _lineage(self, name: str) -> tuple[_Definition, ...]:
        module, attribute = self._members[self.check(name)].split(":")
        return _lineage(module, attribute)


def _fields(definition: _Definition, known: Mapping[str, Field]) -> dict[str, Field]:
    """The fields that a class states itself; without a value the default is `dataclasses.MISSING`.

    A field without a docstring has that of the field which it redefines.
    """
    fields, body = {}, definition.body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if _is_class_variable(node):
            continue
        name = node.target.id
        doc = known[name].doc if name in known else ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            doc = " ".join(str(after.value.value).split())
        default = dataclasses.MISSING if node.value is None else ast.literal_eval(node.value)
        fields[name] = Field(name, ast.unparse(node.annotation), default, doc)
    return fields


@functools.cache
def _facts(definition: _Definition) -> dict[str, Any]:
    """The literal class attributes, other than fields, that a class states itself."""
    facts = {}
    for node in definition.body:
        if isinstance(node, ast.Assign):
            names = node.targets
        elif isinstance(node, ast.AnnAssign) and _is_class_variable(node):
            names = [node.target]
        else:
            continue
        for name in names:
            # What is computed, or only annotated, cannot be read without importing the class.
            with contextlib.suppress(ValueError):
                facts[ast.unparse(name)] = ast.literal_eval(node.value or node)
    return facts


def _is_class_variable(node: ast.AnnAssign) -> bool:
    return ast.unparse(node.annotation).partition("[")[0].endswith("ClassVar")


@functools.cache
def _lineage(module: str, name: str) -> tuple[_Definition, ...]:
    """A class after its bases, the most distant first, as far as they can be read.

    A base's type parameters, as in ``Family[DSMState]``, say nothing of fields and are ignored.
    """
    definition, lineage = _definition(module, name), []
    for base in reversed(getattr(definition, "bases", [])):
        place = _place_of(ast.unparse(base).partition("[")[0], module)
        if place not in (None, (module, name)):
            lineage += [further for further in _lineage(*place) if further not in lineage]
    return *lineage, definition


def _place_of(name: str, module: str) -> tuple[str, str] | None:
    """Module and name of the class that `module` calls `name`, which may have dots.

    None for what belongs neither to the package of `module` nor to this one.
    """
    if any(isinstance(n, ast.ClassDef) and n.name == name for n in _source(module).body):
        return module, name
    head, _, rest = name.partition(".")
    origin, _, attribute = f"{_imports(module).get(head, '')}.{rest}".strip(".").rpartition(".")
    readable = (module.partition(".")[0], __name__.partition(".")[0])
    if origin.partition(".")[0] in readable and _is_module(origin):
        return _place_of(attribute, origin)
    return None


def _is_module(name: str) -> bool:
    """Whether there is a module of that name, found without importing anything but packages."""
    within = name.rpartition(".")[0]
    if within and not (_is_module(within) and _spec(within).submodule_search_locations):
        return False
    return importlib.util.find_spec(name) is not None


def _imports(module: str) -> dict[str, str]:
    """The full name of each name that a module imports."""
    found = {}
    for node in _source(module).body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            origin = importlib.util.resolve_name(relative, _spec(module).parent)
            found |= {a.asname or a.name: f"{origin}.{a.name}" for a in node.names}
    return found


def _definition(module: str, name: str) -> _Definition:
    for node in _source(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    raise LookupError(f"{module} defines no {name}")


@functools.cache
def _source(module: str) -> ast.Module:
    origin = _spec(module).origin
    assert origin is not None
    return ast.parse(Path(origin).read_text(encoding="utf-8"))


def _spec(module: str) -> importlib.machinery.ModuleSpec:
    spec = importlib.util.find_spec(module)  # imports parent packages, not the module
    assert spec is not None
    return spec
