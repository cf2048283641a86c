"""How long to wait before a request is sent again; the rules are those of the API's pages on rate limits.

A limit is refused with 403 or 429. `retry-after` says the seconds; else, with `x-ratelimit-remaining: 0`,
`x-ratelimit-reset` says the moment; else a minute, then twice as long each time.
"""

from __future__ import annotations

from ferryman_release.github.wire import Answer

PATIENCE = 900.0
"""Seconds. Whoever is asked to wait longer is told so, and runs it again."""
ATTEMPTS = 6
_MINUTE = 60.0
_LONGEST_REST = 30.0
_SERVER_ERRORS = frozenset({500, 502, 503, 504})
_SECONDARY = (b"secondary rate limit", b"abuse detection")


def rest(attempt: int) -> float:
    """Seconds after a failure that is not ours: 1, 2, 4 and so on."""
    return min(2.0**attempt, _LONGEST_REST)


def is_server_error(answer: Answer) -> bool:
    """Whether it may go well the next time, and nobody knows what this time did."""
    return answer.status in _SERVER_ERRORS


def limited(answer: Answer, attempt: int, now: float) -> float | None:
    """Seconds that a rate limit asks for, None when the answer is none; ``now`` in seconds since 1970."""
    if answer.status not in (403, 429):
        return None
    after, reset = answer.headers.get("retry-after", ""), answer.headers.get("x-ratelimit-reset", "")
    if after.isdigit():
        return float(after)
    if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return max(float(reset) - now, 0.0) + 1.0  # the clocks of two machines agree to a second at best
    if answer.status == 429 or any(words in answer.body.lower() for words in _SECONDARY):
        return _MINUTE * 2.0**attempt
    return None
