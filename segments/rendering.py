"""A segment's SQL without its Jinja, and without dbt: for compiling it alone, comparing it and replaying it.

Known are `ref`, `var`, `config` (whose words are left out), the macros of `dbt_project/macros` and dbt's cross-database
macros, both from their own files in DuckDB's form. What a segment has no business with (`source`, `run_query`, `graph`,
`env_var`, `this`) is an error that says where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from segments.definitions import Problem, Project, Segment, SegmentError

Relation = Callable[[str], str]

_MACRO = re.compile(
    r"\{%-?\s*macro\s+(?P<name>\w+)\s*\(.*?\{%-?\s*endmacro\s*-?%\}",
    re.DOTALL,
)
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_FORBIDDEN = ("source", "run_query", "graph", "env_var", "this", "target", "load_result", "statement", "is_incremental")
# As dbt's own `Column.translate_type` has them.
_TYPES = {"STRING": "TEXT", "TIMESTAMP": "TIMESTAMP", "FLOAT": "FLOAT", "INTEGER": "INT", "BOOLEAN": "BOOLEAN"}


def render(segment: Segment, *, relation: Relation, timezone: str = "UTC") -> str:
    """The segment's SQL without Jinja.

    Args:
        relation: name of a model or seed -> what to read it from. May raise `LookupError` with a reason.
        timezone: business timezone, for macros of local dates.

    Raises:
        SegmentError: the Jinja is broken or uses what a segment may not; names file, line and reason.
    """
    try:
        environment = _Environment(segment.project, relation, timezone)
        template = environment.from_string(segment.sql)
        text = template.render()
    except jinja2.TemplateSyntaxError as error:
        raise _error(segment, error.lineno, error.message or "its Jinja can't be read") from None
    except _Returned:
        raise _error(segment, None, "`return` is for macros") from None
    except RecursionError:
        raise _error(segment, None, "its macros call each other without end") from None
    except Exception as error:  # whatever a template does to Python's own types, it is the template that is wrong
        raise _error(segment, _line(error), _reason(error)) from None
    if environment.is_disabled:
        raise _error(segment, None, "is switched off by its config: delete its files instead")
    if not text.strip():
        raise _error(segment, None, "renders to nothing")
    return text.strip() + "\n"


def refs(segment: Segment) -> tuple[str, ...]:
    """Names of the models and seeds that the segment reads, sorted.

    Raises:
        SegmentError: as `render`.
    """
    found: set[str] = set()

    def note(name: str) -> str:
        found.add(name)
        return name

    render(segment, relation=note)
    return tuple(sorted(found))


class _Returned(Exception):
    """How `return` leaves a macro with a value that is no text."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Macro:
    """One macro, compiled when it is first called. Each is a template of its own, so that calls go by way of `return`."""

    def __init__(self, environment: _Environment, name: str, text: str) -> None:
        self._environment, self._name, self._text = environment, name, text
        self._call: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self._call is None:
            self._call = getattr(self._environment.from_string(self._text).module, self._name)
        try:
            return str(self._call(*arguments, **named))
        except _Returned as returned:
            return returned.value


class _Package:
    """Macros as attributes: `dbt.datediff`, `mailwright.money`."""

    def __init__(self, name: str, macros: Mapping[str, _Macro]) -> None:
        self._name, self._macros = name, macros

    def __getattr__(self, name: str) -> _Macro:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._macros:
            raise jinja2.UndefinedError(f"there is no macro {self._name}.{name} that a segment may use")
        return self._macros[name]


class _Types:
    """`api.Column`, as dbt's macros of types ask it."""

    @staticmethod
    def translate_type(name: str) -> str:
        return _TYPES.get(name.upper(), name)

    @staticmethod
    def numeric_type(name: str, precision: int, scale: int) -> str:
        return f"{name}({precision},{scale})"


class _Api:
    Column = _Types


class _Environment(jinja2.sandbox.SandboxedEnvironment):
    """Jinja with what a segment may use, and nothing else."""

    def __init__(self, project: Project, relation: Relation, timezone: str) -> None:
        super().__init__(undefined=_Unknown, extensions=[jinja2.ext.do, jinja2.ext.loopcontrols], autoescape=False)
        self.is_disabled = False
        self._relation, self._variables = relation, project.variables
        theirs = {name: _Macro(self, name, text) for name, text in _dbt_macros().items()}
        ours = {name: _Macro(self, name, text) for name, text in _macros(project.macros.values()).items()}
        self.globals.update(theirs)
        self.globals.update(ours)
        self.globals.update(
            {
                "ref": self._ref,
                "var": self._var,
                "config": self._config,
                "return": _return,
                "adapter": self,
                "api": _Api,
                "execute": True,
                "none": None,
                "dbt": _Package("dbt", theirs),
                "mailwright": _Package("mailwright", ours),
                "business_timezone": lambda: timezone,
                "exceptions": self,
                **{name: _Unusable(name) for name in _FORBIDDEN},
            }
        )

    def dispatch(self, name: str, package: str | None = None) -> Any:
        """`adapter.dispatch`: DuckDB's own form of a macro, else the one for any engine."""
        for candidate in (f"duckdb__{name}", f"default__{name}"):
            if candidate in self.globals:
                return self.globals[candidate]
        raise jinja2.UndefinedError(f"macro {name} has no form for DuckDB")

    def raise_compiler_error(self, message: str) -> NoReturn:
        """`exceptions.raise_compiler_error`, as macros use it."""
        raise jinja2.UndefinedError(message)

    def _ref(self, *names: str, **options: Any) -> str:
        if options or len(names) not in (1, 2) or (len(names) == 2 and names[0] != "mailwright"):
            raise jinja2.UndefinedError("ref takes the name of one model of this project")
        if not isinstance(names[-1], str):
            raise jinja2.UndefinedError("ref takes a name in quotes")
        return self._relation(names[-1])

    def _var(self, name: str, default: Any = None) -> Any:
        if name in self._variables:
            return self._variables[name]
        if default is None:
            raise jinja2.UndefinedError(f"there is no var {name} in dbt_project.yml")
        return default

    def _config(self, *_: Any, **said: Any) -> str:
        self.is_disabled |= said.get("enabled") is False
        return ""


class _Unknown(jinja2.StrictUndefined):
    """An unknown name, also where it is only called or passed on."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        return f"`{self._undefined_name}` is nothing that a segment may use"


class _Unusable:
    """Something that dbt knows and that a segment has no business with."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __str__(self) -> str:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise jinja2.UndefinedError(
            f"uses `{self._name}`: a segment reads models by ref, and nothing that depends on where or when it runs"
        )


def _return(value: Any = None) -> NoReturn:
    raise _Returned(value)


def _macros(texts: Any) -> dict[str, str]:
    """Macro name -> its text, of several files."""
    found: dict[str, str] = {}
    for text in texts:
        for match in _MACRO.finditer(_COMMENT.sub("", text)):
            found[match["name"]] = match[0]
    return found


@cache
def _dbt_macros() -> dict[str, str]:
    """The cross-database macros of dbt, its DuckDB adapter's on top; read as text, as importing dbt costs seconds."""
    spec = find_spec("dbt")
    roots = [Path(place) / "include" for place in (spec.submodule_search_locations or ())] if spec is not None else []
    texts = [
        path.read_text(encoding="utf-8")
        for package in ("global_project", "duckdb")
        for root in roots
        for path in sorted((root / package / "macros" / "utils").glob("*.sql"))
    ]
    return _macros(texts)


def _line(error: BaseException) -> int | None:
    """The line of the segment's template at which the error arose, which is the outermost template's."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            return trace.tb_lineno
        trace = trace.tb_next
    return None


def _reason(error: BaseException) -> str:
    said = error.args[0] if isinstance(error, LookupError) and error.args else error
    return " ".join(str(said).split()) or type(error).__name__


def _error(segment: Segment, line: int | None, reason: str) -> SegmentError:
    where = f"line {line}: " if line else ""
    return SegmentError(Problem(segment.name, segment.file, where + reason))
