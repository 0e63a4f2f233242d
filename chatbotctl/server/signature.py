"""Is a webhook really Twilio's? Which URL Twilio called, which token it must have signed with, and the refusal.

Every request passes here before anything that it says is believed. A refusal is the same for every number, so nobody
can find out which numbers this install answers for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from chatbotctl.core.errors import SecretKeyError, SignatureRefused
from chatbotctl.core.log import event
from chatbotctl.core.ports import SignatureCheck
from chatbotctl.core.records.business import Business
from chatbotctl.core.wiring import Core
from chatbotctl.server.request_reading import ReceivedFields

#: A WSGI environ, as PEP 3333 has it.
Environ = Mapping[str, Any]


class TrustedProxies:
    """The peers whose X-Forwarded-Proto and X-Forwarded-Host count.

    Our own, because waitress trusts one address or everybody, and werkzeug's ProxyFix asks nobody who they are.

    Arguments:
        given: addresses and networks, such as `10.0.0.5` and `10.0.0.0/8`; the settings have checked them.
    """

    def __init__(self, given: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(text.strip(), strict=False) for text in given)

    def __contains__(self, peer: object) -> bool:
        try:
            address = ipaddress.ip_address(str(peer))
        except ValueError:  # a Unix socket's peer has no address
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def called_url(environ: Environ, *, public_url: str | None, proxies: TrustedProxies) -> str:
    """The URL that Twilio called, to the letter: scheme, host, path and query string.

    With `public_url` it begins with that. Without, it is the request's own URL, for which a trusted proxy may say what
    scheme and host it was called by: the last value of each header, which is the one that this proxy itself wrote.
    """
    if public_url is not None:
        return public_url + _target(environ)
    scheme, host = str(environ["wsgi.url_scheme"]), environ.get("HTTP_HOST")
    if environ.get("REMOTE_ADDR") in proxies:
        scheme = _last(environ.get("HTTP_X_FORWARDED_PROTO")) or scheme
        host = _last(environ.get("HTTP_X_FORWARDED_HOST")) or host
    return f"{scheme}://{host or environ['SERVER_NAME']}{_target(environ)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureGate:
    """What lets a request in.

    Arguments:
        allow_unsigned: take requests for which there is no auth token to check with (a server that only this machine
            can reach); a request that there is a token for is checked all the same.
    """

    core: Core
    proxies: TrustedProxies
    allow_unsigned: bool

    def require(self, environ: Environ, received: ReceivedFields, business: Business | None) -> str | None:
        """The request's signature, checked with the token of whom it says it is for; None when none is needed.

        Arguments:
            business: whom it says it is for; None: no business of ours.

        Raises SignatureRefused, or StorageUnavailable when the token cannot be looked up.
        """
        server = self.core.settings.server
        if not server.verify_signatures:
            return None
        url = called_url(environ, public_url=server.public_url, proxies=self.proxies)
        check = self._check_for(business)
        if check is None:
            if self.allow_unsigned:
                return None
            event("webhook_without_auth_token", level="error")
            raise SignatureRefused
        signature: str | None = environ.get("HTTP_X_TWILIO_SIGNATURE")
        fields = None if received.is_json else received.pairs
        if signature is None or not check.accepts(url=url, fields=fields, body=received.body, signature=signature):
            # The URL is what goes wrong most often: a missing or outdated server.public_url, a proxy that rewrites.
            event("signature_refused", level="warning", url=url.partition("?")[0], is_signed=signature is not None)
            raise SignatureRefused
        return signature

    def _check_for(self, business: Business | None) -> SignatureCheck | None:
        try:
            return self.core.signature_check(business)
        except SecretKeyError as error:
            # To the caller it looks like any other refusal: a 500 would say that this number is one of ours.
            event("signature_uncheckable", level="error", code=error.code, reason=error.message)
            raise SignatureRefused from error


def _target(environ: Environ) -> str:
    """Path and query as they came over the wire, where the server tells; else as they would usually be written."""
    raw = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    if raw:
        if raw.startswith("/"):
            return str(raw)
        parts = urlsplit(str(raw))  # absolute, as requests to a proxy are
        return parts.path + (f"?{parts.query}" if parts.query else "")
    path = quote(
        (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe="/:@!$&'()*+,;="
    )
    query = environ.get("QUERY_STRING")
    return f"{path}?{query}" if query else path


def _last(header: str | None) -> str:
    return header.rpartition(",")[2].strip() if header else ""
