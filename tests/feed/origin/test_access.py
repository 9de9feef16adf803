"""Credentials and other things a user gives for a source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.errors import UsageError
from p2prss.feed.origin.access import USER_AGENT, Access, parse_credentials


def test_header_lines_become_headers() -> None:
    text = "# mine\n\nAuthorization: Bearer a:b=\n cookie :  sid=1; x=y \r\n"
    assert parse_credentials(text) == (("authorization", "Bearer a:b="), ("cookie", "sid=1; x=y"))
    access = Access.of(credentials=text)
    assert access.secrets == ("a:b=", "1", "y")
    assert "a:b=" not in repr(access)
    assert access.user_agent == USER_AGENT


@pytest.mark.parametrize(
    "text",
    ["geheim", "X-Token: geheim", "Authorization:", "Cookie: gehe\x7fim", "Cookie: geh€im", "Host: geheim"],
)
def test_other_lines_are_refused_without_telling_them(text: str) -> None:
    with pytest.raises(UsageError, match="line 2 of the credentials") as caught:
        parse_credentials(f"#\n{text}")
    assert "geh" not in str(caught.value)


def test_a_header_stands_once() -> None:
    with pytest.raises(UsageError, match="line 2 of the credentials gives Cookie a second time"):
        parse_credentials("Cookie: a=1\nCOOKIE: b=2")


@given(st.text())
def test_any_text_gives_headers_or_a_usage_error(text: str) -> None:
    try:
        found = parse_credentials(text)
    except UsageError:
        return
    assert all(value.isprintable() and value.isascii() for _, value in found)


@pytest.mark.parametrize("agent", ["", " ", "a\r\nHost: b", "ä", "x" * 201])
def test_a_user_agent_is_a_line_of_ascii(agent: str) -> None:
    with pytest.raises(UsageError, match="user agent"):
        Access.of(user_agent=agent)
