"""Names to objects, without importing them.

A registry maps a name to ``"module:attribute"``. Listing names, or describing one, reads source
text only, so that ``densitometer --help`` needs neither JAX nor a second list of what exists.
"""

import ast
import dataclasses
import difflib
import functools
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densitometer.domains import Domain
from densitometer.errors import UsageError


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
        plural: and several of them ("families").
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
        """The first line of the member's docstring, read from its source."""
        return (ast.get_docstring(self._definition(name)) or "").split("\n")[0]

    def fields(self, name: str) -> list[Field]:
        """The annotated fields of a member that is a dataclass, read from its source.

        As in the class itself, those of its bases come first: of bases, that is, which the same
        package defines.
        """
        fields = _fields(*self._place(name))
        return [field for field in fields.values() if field.default is not dataclasses.MISSING]

    def _definition(self, name: str) -> ast.ClassDef | ast.FunctionDef:
        return _definition(*self._place(name))

    def _place(self, name: str) -> tuple[str, str]:
        module, attribute = self._members[self.check(name)].split(":")
        return module, attribute


def _fields(module: str, name: str) -> dict[str, Field]:
    """The fields of a class; without a value the default is `dataclasses.MISSING`."""
    definition, fields = _definition(module, name), {}
    for base in reversed(getattr(definition, "bases", [])):
        if (place := _place_of(base, module)) is not None:
            fields |= _fields(*place)
    body = definition.body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        annotation = ast.unparse(node.annotation)
        if annotation.startswith("ClassVar"):
            continue
        doc = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            doc = " ".join(str(after.value.value).split())
        default = dataclasses.MISSING if node.value is None else ast.literal_eval(node.value)
        fields[node.target.id] = Field(node.target.id, annotation, default, doc)
    return fields


def _place_of(base: ast.expr, module: str) -> tuple[str, str] | None:
    """Module and name of a base class, if the package of `module` defines it.

    What stands in its brackets, as in ``Family[DSMState]``, has no fields.
    """
    if isinstance(base, ast.Subscript):
        base = base.value
    if not isinstance(base, ast.Name):
        return None
    for node in _source(module).body:
        if isinstance(node, ast.ClassDef) and node.name == base.id:
            return module, base.id
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                ours = node.module.partition(".")[0] == module.partition(".")[0]
                if ours and (alias.asname or alias.name) == base.id:
                    return node.module, alias.name
    return None


def _definition(module: str, name: str) -> ast.ClassDef | ast.FunctionDef:
    for node in _source(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    raise LookupError(f"{module} defines no {name}")


@functools.cache
def _source(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)  # imports parent packages, not the module
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
