"""Writes the API reference from the comments in the protos: one Markdown page for each package, and an index.

    buf build --output -#format=binpb | python tools/api_reference.py docs/api

Reads an image (a FileDescriptorSet with comments) from standard input. Pages of packages that are gone are removed.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from guyline.access.v1.access_pb2 import Right, needs

FOREIGN = "google."  # documented elsewhere
FOREIGN_PAGE = "https://protobuf.dev/reference/protobuf/google.protobuf/#"
NOTE = "<!-- Written by tools/api_reference.py from the comments in proto/. Change them, then run `make generate`. -->"

# Where things stand in a descriptor: a comment is found by the path of such numbers (and indices) to what it is about.
OF_FILE_PACKAGE, OF_FILE_MESSAGE, OF_FILE_ENUM, OF_FILE_SERVICE, OF_FILE_EXTENSION = 2, 4, 5, 6, 7
OF_MESSAGE_FIELD, OF_MESSAGE_MESSAGE, OF_MESSAGE_ENUM = 2, 3, 4
OF_ENUM_VALUE = OF_SERVICE_METHOD = 2


@dataclass(frozen=True)
class Row:
    """A field, an enum value or an option. ``type`` is Markdown, ``choice`` the oneof that a field belongs to."""

    name: str
    number: int
    comment: str
    type: str = ""
    choice: str = ""


@dataclass(frozen=True)
class Table:
    """A message or an enum, by its name within the package."""

    name: str
    comment: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Call:
    """``needs`` is the right in lower case, None where the method does not say one."""

    service: str
    name: str
    comment: str
    needs: str | None
    takes: str
    gives: str
    takes_stream: bool
    gives_stream: bool

    @property
    def heading(self) -> str:
        return f"{self.service}.{self.name}"

    @property
    def kind(self) -> str:
        kinds = ("unary", "server stream", "client stream", "bidirectional stream")
        return kinds[self.takes_stream * 2 + self.gives_stream]


@dataclass(frozen=True)
class Service:
    name: str
    comment: str
    calls: tuple[Call, ...]


@dataclass
class Package:
    """All that the files of one package say, in the order of their names."""

    name: str
    comments: list[str]
    services: list[Service]
    messages: list[Table]
    enums: list[Table]
    options: list[Row]

    @property
    def page(self) -> str:
        return f"{self.name}.md"


def packages(image: FileDescriptorSet) -> list[Package]:
    """What an image says, by package and file name, so that the order of its files does not matter."""
    found: dict[str, Package] = {}
    for file in sorted(image.file, key=lambda file: file.name):
        if not file.package.startswith(FOREIGN):
            package = found.setdefault(file.package, Package(file.package, [], [], [], [], []))
            _File(file).add_to(package)
    return [found[name] for name in sorted(found)]


class _File:
    """Reads one file's descriptors together with the comments on them."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}

    def add_to(self, package: Package) -> None:
        if said := self._comment(OF_FILE_PACKAGE):
            package.comments.append(said)
        package.services += self._services()
        package.enums += self._enums(self._file.enum_type, (OF_FILE_ENUM,), "")
        for index, message in enumerate(self._file.message_type):
            self._message(message, (OF_FILE_MESSAGE, index), "", package)
        package.options += [
            Row(option.name, option.number, self._comment(OF_FILE_EXTENSION, index), self._type(option))
            for index, option in enumerate(self._file.extension)
        ]

    def _services(self) -> Iterator[Service]:
        for index, service in enumerate(self._file.service):
            here = (OF_FILE_SERVICE, index)
            calls = (
                self._call(service.name, method, self._comment(*here, OF_SERVICE_METHOD, at))
                for at, method in enumerate(service.method)
            )
            yield Service(service.name, self._comment(*here), tuple(calls))

    def _call(self, service: str, method: MethodDescriptorProto, comment: str) -> Call:
        return Call(
            service=service,
            name=method.name,
            comment=comment,
            needs=_right(method),
            takes=self._link(method.input_type),
            gives=self._link(method.output_type),
            takes_stream=method.client_streaming,
            gives_stream=method.server_streaming,
        )

    def _message(self, message: DescriptorProto, path: tuple[int, ...], outer: str, package: Package) -> None:
        """Adds a message and what is nested in it. Map entries are no messages to a reader."""
        if message.options.map_entry:
            return
        name = outer + message.name
        entries = {f".{self._file.package}.{name}.{n.name}": n for n in message.nested_type if n.options.map_entry}
        rows = (
            Row(
                field.name,
                field.number,
                self._comment(*path, OF_MESSAGE_FIELD, index),
                self._type(field, entries),
                message.oneof_decl[field.oneof_index].name if _is_in_choice(field) else "",
            )
            for index, field in enumerate(message.field)
        )
        package.messages.append(Table(name, self._comment(*path), tuple(rows)))
        package.enums += self._enums(message.enum_type, (*path, OF_MESSAGE_ENUM), f"{name}.")
        for index, nested in enumerate(message.nested_type):
            self._message(nested, (*path, OF_MESSAGE_MESSAGE, index), f"{name}.", package)

    def _enums(self, enums: Iterable[EnumDescriptorProto], path: tuple[int, ...], outer: str) -> Iterator[Table]:
        for index, enum in enumerate(enums):
            rows = (
                Row(value.name, value.number, self._comment(*path, index, OF_ENUM_VALUE, at))
                for at, value in enumerate(enum.value)
            )
            yield Table(outer + enum.name, self._comment(*path, index), tuple(rows))

    def _comment(self, *path: int) -> str:
        lines = self._comments.get(path, "").splitlines()
        return "\n".join(line.removeprefix(" ").rstrip() for line in lines).strip()

    def _type(self, field: FieldDescriptorProto, maps: dict[str, DescriptorProto] | None = None) -> str:
        if maps and field.type_name in maps:
            key, value = maps[field.type_name].field
            return f"map of {self._type(key)} to {self._type(value)}"
        scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        one = self._link(field.type_name) if field.type_name else f"`{scalar}`"
        if field.proto3_optional:
            return f"optional {one}"
        return f"repeated {one}" if field.label == FieldDescriptorProto.LABEL_REPEATED else one

    def _link(self, type_name: str) -> str:
        """A link to a type, whose full name starts with a dot: within this page, to another one, or to Google's."""
        package, name = _split(type_name.removeprefix("."))
        if package.startswith(FOREIGN):
            return f"[`{package}.{name}`]({FOREIGN_PAGE}{_anchor(name)})"
        if package == self._file.package:
            return f"[`{name}`](#{_anchor(name)})"
        return f"[`{package}.{name}`]({package}.md#{_anchor(name)})"


def _right(method: MethodDescriptorProto) -> str | None:
    right = method.options.Extensions[needs]
    return Right.Name(right).removeprefix("RIGHT_").lower() if right else None


def _is_in_choice(field: FieldDescriptorProto) -> bool:
    """Whether a field shares a oneof with others; an optional field has one of its own, which nobody wrote."""
    return field.HasField("oneof_index") and not field.proto3_optional


def _split(full_name: str) -> tuple[str, str]:
    """The package, whose parts are in lower case, and the name within it."""
    parts = full_name.split(".")
    first = next(index for index, part in enumerate(parts) if part[0].isupper())
    return ".".join(parts[:first]), ".".join(parts[first:])


def _anchor(heading: str) -> str:
    return heading.lower().replace(".", "")


def _first_sentence(comment: str) -> str:
    paragraph = " ".join(comment.partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


def _cell(comment: str) -> str:
    """A comment as one line of a table."""
    return "<br>".join(" ".join(part.split()) for part in comment.split("\n\n")).replace("|", "\\|")


def to_page(package: Package) -> str:
    """The page of one package."""
    lines = [NOTE, "", f"# {package.name}", "", *(f"{comment}\n" for comment in package.comments)]
    for service in package.services:
        lines += [f"## {service.name}", "", service.comment, "", *_calls_table(service.calls), ""]
        for call in service.calls:
            lines += _call_section(call, f"/{package.name}.{service.name}/{call.name}")
    lines += _tables("Messages", package.messages)
    lines += _tables("Enums", package.enums)
    if package.options:
        lines += ["## Options", "", *_rows(package.options), ""]
    return "\n".join(lines).rstrip() + "\n"


def _calls_table(calls: Iterable[Call], page: str = "") -> Iterator[str]:
    yield "| Call | Kind | Right | |"
    yield "| --- | --- | --- | --- |"
    for call in calls:
        link = f"[{call.heading if page else call.name}]({page}#{_anchor(call.heading)})"
        yield f"| {link} | {call.kind} | {call.needs or ''} | {_cell(_first_sentence(call.comment))} |"


def _call_section(call: Call, path: str) -> Iterator[str]:
    yield from (f"### {call.heading}", "")
    takes = f"a stream of {call.takes}" if call.takes_stream else call.takes
    gives = f"a stream of {call.gives}" if call.gives_stream else call.gives
    needs = f" Needs the right *{call.needs}*." if call.needs else ""
    yield from (f"`{path}` takes {takes} and gives {gives}.{needs}", "", call.comment, "")


def _tables(heading: str, tables: Iterable[Table]) -> Iterator[str]:
    for index, table in enumerate(tables):
        if index == 0:
            yield from (f"## {heading}", "")
        yield from (f"### {table.name}", "", table.comment, "")
        if table.rows:
            yield from (*_rows(table.rows), "")


def _rows(rows: Iterable[Row]) -> Iterator[str]:
    typed = any(row.type for row in rows)
    yield "| Field | | Type | Meaning |" if typed else "| Value | | Meaning |"
    yield "| --- | --- | --- | --- |" if typed else "| --- | --- | --- |"
    for row in rows:
        choice = f"<br>one of `{row.choice}`" if row.choice else ""
        type_cell = f" {row.type}{choice} |" if typed else ""
        yield f"| `{row.name}` | {row.number} |{type_cell} {_cell(row.comment)} |"


def to_index(found: Iterable[Package]) -> str:
    """The first page: the packages, then every call."""
    lines = [NOTE, "", "# API reference", "", "| Package | Holds |", "| --- | --- |"]
    for package in found:
        holds = [service.name for service in package.services]
        holds = holds or [table.name for table in (*package.messages, *package.enums)]
        lines.append(f"| [{package.name}]({package.page}) | {', '.join(holds)} |")
    for package in found:
        for service in package.services:
            lines += ["", f"## {service.name}", "", _first_sentence(service.comment), ""]
            lines += _calls_table(service.calls, package.page)
    return "\n".join(lines) + "\n"


def write(image: FileDescriptorSet, folder: Path) -> None:
    """Makes ``folder`` hold the reference and no other Markdown."""
    found = packages(image)
    pages = {package.page: to_page(package) for package in found} | {"README.md": to_index(found)}
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    write(FileDescriptorSet.FromString(sys.stdin.buffer.read()), Path(sys.argv[1]))
