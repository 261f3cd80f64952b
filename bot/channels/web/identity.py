"""Who a signed-in customer is: the company's own server says so, signed with the secret of the site.

Owns both forms, the JWT and the older HMAC of the user's id, and every way in which either is refused. The secret
never leaves the two servers; what is in the page is good for one customer and, as a JWT, for a day at most.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bot.channels.web.problems import Problem
from bot.conversation.messages import readable
from bot.storage.sites import Site
from bot.storage.visitors import Identity

ALGORITHM = "HS256"
LEEWAY_SECONDS = 60
"""How far the clocks of the two servers may be apart."""

LONGEST_LIFE_SECONDS = 24 * 3600
LONGEST_USER_ID = 256
LONGEST_TOLD = 200


def identity_by_token(token: str, site: Site, secret: str, now: datetime) -> Identity:
    """The customer that a JWT names: HS256 with the site's secret, `sub`, `aud` the site's id, `exp` within 24 hours.

    `name` and `email` in it are taken over. Raises Problem (401) that says what is wrong with it.
    """
    import jwt  # costs thirty milliseconds that only sites with signed-in customers need

    if not secret:
        raise _no_secret(site)
    try:
        # One algorithm, whatever the token says of itself: `none` and keys of another kind are no signatures.
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=site.id,
            # what is wrong with these is told by name below; nobody reads `jti`
            options={
                "require": ["exp", "sub", "aud"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except jwt.InvalidAlgorithmError:
        raise _refused(f"sign it with {ALGORITHM}; no other algorithm is accepted") from None
    except jwt.InvalidAudienceError:
        raise _refused(f"its `aud` must be this site's id, {site.id!r}") from None
    except jwt.MissingRequiredClaimError as error:
        raise _refused(f"it lacks `{error.claim}`; it needs `sub`, `aud` and `exp`") from None
    except jwt.InvalidSignatureError:
        raise _refused("its signature is not by this site's secret; `frontdesk sites secret` makes a new one") from None
    except jwt.InvalidTokenError:
        raise _refused("it is not a well-formed JSON Web Token") from None
    _check_times(claims, now.timestamp())
    return Identity(_user_id(claims["sub"]), _told(claims.get("name")), _told(claims.get("email")))


def identity_by_hash(user_id: str, signature: str, site: Site, secret: str) -> Identity:
    """The customer with this id, if `signature` is the hex HMAC-SHA256 of it by the site's secret. It never expires:
    for sites that cannot make a JWT yet. Raises Problem (401)."""
    if not secret:
        raise _no_secret(site)
    known = _user_id(user_id)
    expected = hmac.new(secret.encode(), known.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.lower().encode("utf-8", "replace")):
        raise _refused("`identity_hash` is not the hex HMAC-SHA256 of `user_id` by this site's secret")
    return Identity(known)


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    """The times in it against our clock. A wrong clock is the usual reason, so the difference is told."""
    times = {name: claims.get(name) for name in ("exp", "nbf", "iat")}
    for name, value in times.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _refused(f"its `{name}` must be a number, seconds since 1970")
    ends, begins = float(times["exp"] or 0), max(float(times["nbf"] or 0), float(times["iat"] or 0))
    if not ends > now - LEEWAY_SECONDS:
        raise _refused(
            f"it expired {_ago(now - ends)} ago by our clock; make a fresh one for each page, and if you did, set the "
            "clock of the server that signs it"
        )
    if begins > now + LEEWAY_SECONDS:
        raise _refused(
            f"it begins {_ago(begins - now)} from now by our clock; set the clock of the server that signs it"
        )
    if ends > now + LONGEST_LIFE_SECONDS + LEEWAY_SECONDS:
        raise _refused("its `exp` is more than 24 hours ahead; let it end sooner")


def _user_id(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_USER_ID or readable(value) != value:
        raise _refused(f"the user's id must be text of 1 to {LONGEST_USER_ID} readable characters")
    return value


def _told(value: object) -> str:
    return readable(value)[:LONGEST_TOLD] if isinstance(value, str) else ""


def _ago(seconds: float) -> str:
    return f"{seconds:,.0f} seconds" if seconds < 10**9 else "years"


def _no_secret(site: Site) -> Problem:
    return _refused(f"site {site.id!r} has no secret yet; `frontdesk sites secret {site.id}` makes one")


def _refused(why: str) -> Problem:
    return Problem(401, "Identity refused", f"The identity does not prove who the customer is: {why}.")
