"""Twilio's webhook signatures, checked and made with the SDK's own validator.

The server asks it before anything of a request is believed; `simulate --url` signs with it. Which token belongs to a
request, and which URL Twilio called, is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from twilio.request_validator import RequestValidator


class TwilioSignature:
    """ports.SignatureCheck for one auth token. An empty token accepts nothing: anybody can sign with it."""

    def __init__(self, auth_token: str) -> None:
        self._auth_token = auth_token

    def accepts(self, *, url: str, fields: Sequence[tuple[str, str]] | None, body: str, signature: str | None) -> bool:
        """Whether `signature` is right for `url` with a form's `fields`, or, when None, with the JSON `body`.

        A JSON body is covered by the signature only through `bodySHA256` in the URL, so without it none is accepted.
        """
        if not self._auth_token or not signature:
            return False
        try:
            signed_url = _without_fragment(url)
            # The validator would take a body that is no str, or that the URL has no hash of, for an empty form.
            if fields is None and not (
                isinstance(body, str) and parse_qs(urlsplit(signed_url).query).get("bodySHA256")
            ):
                return False
            parameters = body if fields is None else _FormFields(fields)
            return bool(self._validator().validate(signed_url, parameters, signature))
        except (TypeError, ValueError, AttributeError, LookupError):
            # What the validator and the URL parser raise on bytes, lone surrogates, impossible ports and brackets:
            # a request that cannot be checked is not Twilio's.
            return False

    def sign(self, *, url: str, fields: Sequence[tuple[str, str]]) -> str:
        """The signature Twilio would send for a form."""
        return str(self._validator().compute_signature(_without_fragment(url), _FormFields(fields)))

    def _validator(self) -> RequestValidator:
        from twilio.request_validator import RequestValidator

        return RequestValidator(self._auth_token)


def _without_fragment(url: str) -> str:
    """`url` as it is signed: connection overrides (`#rc=3&rp=ct`) are configured behind it, but never sent.

    Cut, not parsed and put together again: that would drop an empty `?`, and then no signature would fit.
    """
    return url.partition("#")[0]


class _FormFields(dict[str, list[str]]):
    """A form as the validator reads it: a field that came twice is signed with each of its values once, sorted."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        for name, value in fields:
            self.setdefault(name, []).append(value)

    def getall(self, name: str) -> list[str]:
        """The validator's own protocol for multi-valued fields."""
        return self[name]
