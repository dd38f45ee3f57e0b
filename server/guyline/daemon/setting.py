"""Settings of a daemon: one frozen dataclass each, its fields made by ``setting``.

Nothing here is slow to import. Where values come from is ``settings_source``, which only the launching command loads;
it hands the result on as JSON.
"""

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

Unit: TypeAlias = Literal["", "bytes", "seconds"]

Value = TypeVar("Value")
Settings = TypeVar("Settings", bound="DataclassInstance")

_KEY = "setting"


class InvalidSetting(Exception):
    """A setting cannot be as it is. ``name`` is the field's; the message says what to do, without the name."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


@dataclass(frozen=True, kw_only=True)
class About:
    """What ``--help`` says of a setting, and its bounds."""

    help: str
    default_text: str | None
    """What to show as the default where the value itself says little."""

    unit: Unit
    minimum: float | None
    maximum: float | None


def setting(
    default: Value,
    *,
    help: str,  # noqa: A002 (what it is)
    default_text: str | None = None,
    unit: Unit = "",
    minimum: float | None = None,
    maximum: float | None = None,
) -> Value:
    """A field of a settings dataclass."""
    about = About(help=help, default_text=default_text, unit=unit, minimum=minimum, maximum=maximum)
    made: Value = field(default=default, metadata={_KEY: about})
    return made


def setting_from(
    default: Callable[[], Value],
    *,
    help: str,  # noqa: A002 (what it is)
    default_text: str,
) -> Value:
    """A field whose default is found when the settings are made."""
    about = About(help=help, default_text=default_text, unit="", minimum=None, maximum=None)
    made: Value = field(default_factory=default, metadata={_KEY: about})
    return made


def about_settings(kind: "type[DataclassInstance]") -> dict[str, About]:
    """What is said of each setting, by its name."""
    return {each.name: each.metadata[_KEY] for each in fields(kind)}


def default_of(kind: "type[DataclassInstance]", name: str) -> Any:
    """The default of a setting as of now."""
    each = next(each for each in fields(kind) if each.name == name)
    return each.default if each.default_factory is MISSING else each.default_factory()


def demand_bounds(settings: "DataclassInstance") -> None:
    """Checks every number that is set against its bounds; called from ``__post_init__``.

    Raises:
        InvalidSetting: For the first that is outside.
    """
    for name, about in about_settings(type(settings)).items():
        value = getattr(settings, name)
        if value is None:
            continue
        if about.minimum is not None and value < about.minimum:
            raise InvalidSetting(name, f"{value} is too small; give at least {to_text(about.minimum, about.unit)}")
        if about.maximum is not None and not value <= about.maximum:
            raise InvalidSetting(name, f"{value} is too large; give at most {to_text(about.maximum, about.unit)}")


def to_text(value: object, unit: Unit) -> str:
    """A value as one would write it: ``64MiB``, ``10s``, ``info``."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if unit == "bytes" and isinstance(value, int | float):
        return _bytes_to_text(int(value))
    if unit == "seconds":
        return _seconds_to_text(float(str(value)))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _seconds_to_text(seconds: float) -> str:
    for factor, suffix in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % factor == 0:
            return f"{seconds / factor:g}{suffix}"
    return f"{seconds:g}s"


def _bytes_to_text(size: int) -> str:
    for factor, suffix in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size and size % factor == 0:
            return f"{size // factor}{suffix}"
    return str(size)


def to_json(settings: "DataclassInstance") -> str:
    """The settings for another process of the same code; ``from_json`` reads them."""
    return json.dumps({each.name: getattr(settings, each.name) for each in fields(settings)}, default=str)


def from_json(kind: type[Settings], text: str) -> Settings:
    """What ``to_json`` wrote. Settings it does not name have their defaults, those it alone knows are left out.

    So code of another version can be given them in an upgrade.
    """
    hints = get_type_hints(kind)
    values: Mapping[str, Any] = json.loads(text)
    return kind(**{name: _revived(value, hints[name]) for name, value in values.items() if name in hints})


def _revived(value: Any, hint: Any) -> Any:
    options = get_args(hint) if get_origin(hint) is types.UnionType else (hint,)
    return Path(value) if value is not None and Path in options else value
