"""Where the settings of a daemon come from: flags, then the environment, then a TOML file, then defaults.

Slow to import (pydantic), so only the launching command does.
"""

import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, NoReturn, TypeVar, get_type_hints

from pydantic import BeforeValidator, Field, ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from guyline.daemon.setting import GIB, KIB, MIB, About, InvalidSetting, about_settings, default_of, to_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")

_WRONG_USAGE = 2  # the exit code

_SIZES = {"": 1, "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB, "K": KIB, "M": MIB, "G": GIB}
_METAVARS = {"str": "TEXT", "int": "N", "Path": "PATH"}
_PERIODS = {"": 1.0, "S": 1.0, "MS": 0.001, "M": 60.0, "H": 3600.0, "D": 86400.0}


def parse(kind: type[Settings], argv: Sequence[str], *, prog: str, env_prefix: str) -> Settings:
    """The settings for this start.

    ``--help`` prints all of them and exits with 0. What is wrong is said in one line on standard error, naming the
    flag, variable or file it came from, and exits with 2.

    Args:
        kind: A dataclass of ``setting`` fields. Its field ``config``, if it has one, names the TOML file.
        argv: The arguments behind the command's name.
        prog: The command's name, for ``--help``.
        env_prefix: What variables begin with: GUYLINE_AGENT_ makes it GUYLINE_AGENT_STATE_DIR.
    """
    try:
        return _Sources(kind, prog=prog, env_prefix=env_prefix).read(argv)
    except _Refused as why:
        _exit(prog, str(why))


class _Refused(Exception):
    """Says in one line what is wrong, where it came from, and what to do."""


class _Sources(Generic[Settings]):
    def __init__(self, kind: type[Settings], *, prog: str, env_prefix: str) -> None:
        self._kind = kind
        self._prog = prog
        self._env_prefix = env_prefix
        self._about = about_settings(kind)
        self._origins: dict[str, str] = {}  # setting to flag, variable or file

    def read(self, argv: Sequence[str]) -> Settings:
        model = self._to_model()
        values = {**self._from_environment(model), **self._from_flags(model, argv)}
        values = {**self._from_file(values), **values}
        try:
            checked = model.model_validate(values)
        except ValidationError as why:
            problem = why.errors()[0]
            name = str(problem["loc"][0])
            raise self._refused(name, f"{problem['input']!r} will not do: {_lowered(problem['msg'])}") from why
        given = {name: _absolute(getattr(checked, name)) for name in values}
        try:
            return self._kind(**given)
        except InvalidSetting as why:
            raise self._refused(why.name, str(why)) from why

    def _from_flags(self, model: type[BaseSettings], argv: Sequence[str]) -> dict[str, Any]:
        try:
            source = CliSettingsSource[Any](
                model, cli_prog_name=self._prog, cli_parse_args=list(argv), add_argument_method=self._add_argument
            )
        except SettingsError as why:
            raise _Refused(f"{str(why).removeprefix('error parsing CLI: ')}; --help lists the flags") from why
        return self._note(source(), _flag)

    def _add_argument(self, parser: Any, *names: str, **options: Any) -> Any:
        """Adds a flag to the parser, with our own words for its kind of value and its default."""
        name = names[-1].removeprefix("--").replace("-", "_")
        if name in self._about:
            options["help"] = self._help(name)
        if "metavar" in options:
            options["metavar"] = self._metavar(name, options["metavar"])
        return ArgumentParser.add_argument(parser, *names, **options)

    def _from_environment(self, model: type[BaseSettings]) -> dict[str, Any]:
        return self._note(EnvSettingsSource(model)(), lambda name: f"{self._env_prefix}{name.upper()}")

    def _from_file(self, values: Mapping[str, Any]) -> dict[str, Any]:
        if "config" not in self._about:
            return {}
        path = values.get("config") or default_of(self._kind, "config")
        if path is None:
            return {}
        content = _read_toml(Path(path).expanduser())
        unknown = sorted(content.keys() - self._about.keys())
        if unknown:
            raise _Refused(f"{path}: {unknown[0]!r} is no setting; --help lists them, written with underscores here")
        return self._note(content, lambda name: f"{name} in {path}", only_new=True)

    def _note(
        self, values: Mapping[str, Any], to_origin: Callable[[str], str], *, only_new: bool = False
    ) -> dict[str, Any]:
        for name in values:
            if not only_new or name not in self._origins:
                self._origins[name] = to_origin(name)
        return dict(values)

    def _refused(self, name: str, problem: str) -> _Refused:
        return _Refused(f"{self._origins.get(name, _flag(name))}: {problem}")

    def _to_model(self) -> type[BaseSettings]:
        hints = get_type_hints(self._kind)
        definitions: dict[str, Any] = {
            name: (_annotated(hints[name], about), Field(default=default_of(self._kind, name)))
            for name, about in self._about.items()
        }

        class Source(BaseSettings):
            """Only what is common to all: the fields come from the dataclass."""

            model_config = SettingsConfigDict(
                env_prefix=self._env_prefix,
                cli_kebab_case=True,
                cli_implicit_flags=True,
                cli_hide_none_type=True,
                cli_avoid_json=True,
                cli_exit_on_error=False,
            )

            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],  # noqa: ARG003 (pydantic-settings passes them by name)
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
                dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
                file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return (init_settings,)  # the others are asked one by one, so that an error can say which was wrong

        model: type[BaseSettings] = create_model(
            self._kind.__name__, __base__=Source, __doc__=(self._kind.__doc__ or "").partition("\n")[0], **definitions
        )
        return model

    def _help(self, name: str) -> str:
        about = self._about[name]
        default = about.default_text or to_text(default_of(self._kind, name), about.unit)
        return f"{about.help} (default: {default})".replace("%", "%%")

    def _metavar(self, name: str, otherwise: str) -> str:
        about = self._about.get(name)
        unit = about.unit if about else ""
        return {"bytes": "SIZE", "seconds": "DURATION"}.get(unit) or _METAVARS.get(otherwise, otherwise)


def _annotated(hint: Any, about: About) -> Any:
    if about.unit == "bytes":
        return Annotated[hint, BeforeValidator(lambda value: _scaled(value, _SIZES, "64MiB"))]
    if about.unit == "seconds":
        return Annotated[hint, BeforeValidator(lambda value: _scaled(value, _PERIODS, "90s, 5m or 24h"))]
    return hint


def _scaled(value: object, units: Mapping[str, float], example: str) -> object:
    """A number with a unit as the number alone; what is no text is left to the ordinary check."""
    if not isinstance(value, str):
        return value
    number = value.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = value.strip()[len(number) :].upper()
    try:
        return float(number) * units[unit]
    except (KeyError, ValueError):
        raise ValueError(f"give a number, or one with its unit such as {example}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as why:
        raise _Refused(f"cannot read the settings file {str(path)!r}: {why.strerror}") from why
    except ValueError as why:
        raise _Refused(f"the settings file {str(path)!r} is no TOML: {why}") from why


def _absolute(value: object) -> object:
    return value.expanduser().absolute() if isinstance(value, Path) else value


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _lowered(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _exit(prog: str, problem: str) -> NoReturn:
    print(f"{prog}: {problem}", file=sys.stderr)  # noqa: T201 (what the user asked for)
    raise SystemExit(_WRONG_USAGE)
