"""A form sent to a hub: the one request of ours that is no GET."""

import trio

from p2prss.errors import FetchError
from p2prss.feed.origin.download import ANSWER_SECONDS
from p2prss.feed.origin.retries import Retry
from p2prss.feed.origin.session import Session
from p2prss.feed.origin.transport import network_errors
from p2prss.feed.origin.url import redact, without_user


async def post_form(session: Session, url: str, form: bytes) -> int:
    """Send it without the source's credentials and without following redirects.

    Returns: the status of the answer, whose body is not read. Raises: FetchError.
    """
    headers = {"content-type": "application/x-www-form-urlencoded"}
    try:
        with trio.move_on_after(ANSWER_SECONDS), network_errors():
            async with session.limiter(url):
                session.client.cookies.clear()
                request = session.client.stream("POST", without_user(url), content=form, headers=headers)
                async with request as response:
                    return response.status_code
    except (Retry, FetchError) as error:
        raise FetchError(f"{redact(url)}: {error}") from None
    raise FetchError(f"{redact(url)}: it does not answer in time")
