"""Every place where the text of an error or of an object ends up in practice, as texts to search."""

from __future__ import annotations

import base64
import io
import logging
import pickle
import pickletools
import traceback
from collections.abc import Iterator
from urllib.parse import quote


def related(error: BaseException) -> Iterator[BaseException]:
    """An error, its causes and contexts (suppressed ones too), and the members of groups."""
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [each for each in (one.__cause__, one.__context__) if each is not None]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


def of_error(error: BaseException) -> Iterator[tuple[str, str]]:
    """The name of each sink and what would be written there."""
    for one in related(error):
        yield "str", str(one)
        yield "repr", repr(one)
        yield "args", repr(one.args) + " ".join(str(each) for each in one.args)
        yield "vars", repr(vars(one)) + " ".join(str(each) for each in vars(one).values())
        yield "notes", repr(getattr(one, "__notes__", ""))
        yield "format_exception_only", "".join(traceback.format_exception_only(one))
        yield (
            "attributes",
            " ".join(str(getattr(one, name, "")) for name in dir(one) if not name.startswith("__")),
        )
        try:
            data = pickle.dumps(one)
        except (TypeError, AttributeError, pickle.PicklingError):
            continue
        text = io.StringIO()
        pickletools.dis(data, out=text)
        yield "pickle", text.getvalue() + data.decode("latin-1")
    yield "format_exception", "".join(traceback.format_exception(error))
    with_locals = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False)
    yield "traceback with locals", "".join(with_locals.format())
    record = logging.LogRecord("x", 40, "x", 1, "%s", (error,), (type(error), error, error.__traceback__))
    yield "logging.exception", logging.Formatter("%(message)s").format(record)


def of_object(thing: object) -> Iterator[tuple[str, str]]:
    """What a debugger, a log line or a crash report says of a public object."""
    yield "object str", str(thing)
    yield "object repr", repr(thing)
    attributes = getattr(thing, "__dict__", {})
    yield "object vars", repr(attributes)
    for name, value in attributes.items():
        yield f"object vars.{name}", repr(value) + repr(getattr(value, "__dict__", ""))


class Records(logging.Handler):
    """Every record of every logger, with its arguments and traceback."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.texts: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record as all that can be made of it."""
        text = self.format(record) + repr(record.args) + repr(record.msg)
        self.texts.append((f"log {record.name}", text))


def shapes(secret: str) -> set[str]:
    """A secret as it is, percent-encoded, and inside base64."""
    found = {secret, quote(secret, safe="")}
    for before in range(3):
        packed = base64.b64encode(b"x" * before + secret.encode())
        found.add(packed[4:-4].decode())
    return found


def found_in(secrets: dict[str, str], texts: list[tuple[str, str]]) -> list[str]:
    """Which secret stands in which sink."""
    return sorted(
        {
            f"{name} in {sink}: ...{text[max(0, text.index(shape) - 60) : text.index(shape) + 20]}..."
            for name, secret in secrets.items()
            for shape in shapes(secret)
            for sink, text in texts
            if shape in text
        }
    )
