"""Secrets: a token is in the header of a request and nowhere that prints, logs or stores."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import pprint
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._errors import ConfigurationError
from asyncjobs._secrets import MASK, Credential, HeaderValue, Secret, checked_token

CANARY = "glpat-CANARY_0123456789"
OTHER = "glpat-OTHER_0123456789"


def test_a_secret_is_in_no_text() -> None:
    """No way of printing, formatting or looking into a secret shows it."""
    secret = Secret(CANARY)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        f"{[secret]} {{'token': secret}}",
        "%s %r" % (secret, secret),  # noqa: UP031 -- one more sink
        pprint.pformat({"token": secret}),
        repr(getattr(secret, "__dict__", None)),
        repr(BaseExceptionGroup("x", [ValueError(secret)])),
        str(logging.LogRecord("a", 10, "p", 1, "%s %r", (secret, secret), None).getMessage()),
    ]
    assert not [text for text in shown if CANARY in text]
    assert secret.reveal() == CANARY


@pytest.mark.parametrize("write", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_written(write: object) -> None:
    """Pickling or copying a secret fails rather than writing it down."""
    assert callable(write)
    with pytest.raises(TypeError, match="not written anywhere"):
        write(Secret(CANARY))


def test_a_secret_is_compared_by_value() -> None:
    """Equal tokens are equal secrets, so that clients may share a budget."""
    assert Secret(CANARY) == Secret(CANARY) != Secret(OTHER)
    assert hash(Secret(CANARY)) == hash(Secret(CANARY))
    assert Secret(CANARY) != CANARY


def test_a_header_value_prints_as_a_mask() -> None:
    """The value that travels is the token; its repr, as in other people's tracebacks, is not."""
    value = Secret(CANARY).reveal()
    assert isinstance(value, HeaderValue)
    assert value.encode() == CANARY.encode()
    headers = {"PRIVATE-TOKEN": value}
    assert CANARY not in repr(headers) + pprint.pformat(headers) + f"{value!r}"

    def fail(held: str) -> None:
        raise RuntimeError(len(held))

    with pytest.raises(RuntimeError) as caught:
        fail(value)
    seen = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack[-1].locals
    assert seen == {"held": repr(MASK)}


@pytest.mark.parametrize(
    "token", [CANARY, f"  {CANARY}\n", "a", "eyJhbGci.eyJzdWIi.c2ln-_", "a+b/c=", "x" * 512]
)
def test_tokens_as_people_store_them(token: str) -> None:
    """Space and line ends around a token, as files have them, are taken off."""
    assert checked_token(token, what="private_token").reveal() == token.strip()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (f"{CANARY}\r\nX-Evil: 1", "characters"),
        (f"{CANARY} {CANARY}", "characters"),
        (f"{CANARY}\x00", "characters"),
        (f"{CANARY}é", "characters"),
        (CANARY * 100, "too long"),
        (None, "not NoneType"),
        (5, "not int"),
        (CANARY.encode(), "not bytes"),
    ],
)
def test_what_is_no_token(value: object, says: str) -> None:
    """What cannot be a token, or would break out of its header, is refused without being repeated."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        checked_token(value, what="private_token")
    assert "private_token" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "header", "value"),
    [
        ("private_token", "PRIVATE-TOKEN", CANARY),
        ("job_token", "JOB-TOKEN", CANARY),
        ("oauth_token", "Authorization", f"Bearer {CANARY}"),
    ],
)
async def test_headers(kind: str, header: str, value: str) -> None:
    """Each kind of token travels in its own header, masked when printed."""
    credential = Credential(kind, CANARY)
    token = await credential.token()
    assert (credential.header, credential.value(token)) == (header, value)
    assert CANARY not in repr(credential.value(token)) + repr(credential) + repr(token)
    assert not hasattr(credential, "__dict__")


async def test_a_fixed_token_is_not_renewed() -> None:
    """A 401 with a plain string is final."""
    credential = Credential("private_token", CANARY)
    assert await credential.renew(await credential.token()) is False


async def test_a_callable_is_asked_once() -> None:
    """A thousand calls that begin together ask the source once; nothing asks again until a refusal."""
    asked = 0

    async def source() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1)
        return CANARY

    credential = Credential("private_token", source)
    tokens = await asyncio.gather(*(credential.token() for _ in range(1000)))
    assert {token.reveal() for token in tokens} == {CANARY}
    assert await credential.token() == Secret(CANARY)
    assert asked == 1


async def test_rotation() -> None:
    """After a refusal the source is asked once for all; only a different token is worth a second try."""
    tokens = iter([CANARY, OTHER, OTHER])

    async def source() -> str:
        await asyncio.sleep(1)
        return next(tokens)

    credential = Credential("oauth_token", source)
    refused = await credential.token()
    assert await asyncio.gather(*(credential.renew(refused) for _ in range(5))) == [True] * 5
    assert await credential.token() == Secret(OTHER)
    assert await credential.renew(Secret(OTHER)) is False


async def test_no_rotation() -> None:
    """A thousand calls refused together ask once, although there is nothing new; a later one asks again."""
    asked = 0

    async def source() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1)
        return CANARY

    credential = Credential("private_token", source)
    refused = await credential.token()
    assert await asyncio.gather(*(credential.renew(refused) for _ in range(1000))) == [False] * 1000
    assert asked == 2
    assert await credential.renew(refused) is False
    assert asked == 3


async def test_a_cancelled_question_is_asked_again() -> None:
    """Cancelling the call that asks the source leaves the others to ask it."""
    asked = 0

    async def source() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1)
        return CANARY

    credential = Credential("private_token", source)
    first, second = (asyncio.ensure_future(credential.token()) for _ in range(2))
    await asyncio.sleep(0.5)
    first.cancel()
    assert (await second).reveal() == CANARY
    assert first.cancelled()
    assert asked == 2


async def test_a_source_that_gives_nonsense() -> None:
    """What the source gives is checked like a string, and the next call asks again."""
    answers = iter(["", CANARY])

    async def source() -> str:
        return next(answers)

    credential = Credential("private_token", source)
    with pytest.raises(ConfigurationError, match="private_token is empty"):
        await credential.token()
    assert (await credential.token()).reveal() == CANARY


@pytest.mark.parametrize("source", [None, 5, b"x", ["a"]])
def test_what_is_no_source(source: object) -> None:
    """A token is a string or an async callable."""
    with pytest.raises(ConfigurationError, match="a string or an async callable"):
        Credential("private_token", source)  # type: ignore[arg-type]  # that it may not is the point


async def test_scrubbing() -> None:
    """The token of now and the ones just before are masked in whatever a server says."""
    names = iter([f"glpat-number-{i}" for i in range(10)])

    async def source() -> str:
        return next(names)

    credential = Credential("private_token", source)
    token = await credential.token()
    for _ in range(9):
        await credential.renew(token)
        token = await credential.token()
    assert credential.scrub("glpat-number-9, glpat-number-7!") == f"{MASK}, {MASK}!"
    assert credential.scrub("a word of GitLab") == "a word of GitLab"


@given(st.text(), st.text())
def test_no_token_survives_scrubbing(before: str, after: str) -> None:
    """Wherever the token stands in a text, it is not there afterwards."""
    credential = Credential("private_token", CANARY)
    assert CANARY not in credential.scrub(f"{before}{CANARY}{after}{CANARY}")


def test_short_tokens_leave_words_alone() -> None:
    """A token shorter than any real one does not tear holes into plain text."""
    assert Credential("private_token", "a").scrub("a banana") == "a banana"


def test_identity() -> None:
    """Equal tokens, or the same callable, share a budget; everything else does not."""

    async def one() -> str:
        return CANARY

    async def two() -> str:
        return CANARY

    def identity(source: object) -> object:
        return Credential("private_token", source).identity()  # type: ignore[arg-type]  # both kinds

    assert identity(CANARY) == identity(CANARY) != identity(OTHER)
    assert identity(one) == identity(one) != identity(two)


async def test_a_plain_callable_is_told_so() -> None:
    """A token source that is not async is one clear error that names the option."""
    credential = Credential("private_token", lambda: "glpat-abcdefgh")  # type: ignore[arg-type, return-value]  # the mistake
    with pytest.raises(ConfigurationError, match="private_token must be a string or an async callable"):
        await credential.token()
