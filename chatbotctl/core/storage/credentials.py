"""Businesses' own credentials, encrypted at rest with MultiFernet, so that keys rotate."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Connection, delete, insert, select

from chatbotctl.core.errors import SecretKeyError
from chatbotctl.core.records.business import Business
from chatbotctl.core.storage.schema import credentials

#: Providers that a business may have its own credentials for -> what the secret looks like.
PROVIDERS = {
    "openai": "an API key (sk-...)",
    "twilio": "ACCOUNT_SID:AUTH_TOKEN (AC...:...)",
    "slack": "a bot token (xoxb-...)",
}


class Vault:
    """Encrypts with the first key and decrypts with any: put a new key in front to rotate."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as exc:
            raise SecretKeyError(
                "The secret key is not usable: it must be 32 url-safe base64-encoded bytes.",
                hint="Let `chatbotctl init` make one; separate several by commas.",
            ) from exc

    def store(self, tx: Connection, business: Business, provider: str, secret: str) -> None:
        """Set or replace the business's secret for `provider`."""
        remove(tx, business, provider)
        token = self._fernet.encrypt(secret.encode())
        tx.execute(insert(credentials).values(business_id=business.id, provider=provider, secret=token))

    def secret(self, tx: Connection, business_id: int, provider: str) -> str | None:
        """The business's secret for `provider`, or None. Raises SecretKeyError when no key fits."""
        token = tx.scalar(
            select(credentials.c.secret).where(
                credentials.c.business_id == business_id, credentials.c.provider == provider
            )
        )
        if token is None:
            return None
        try:
            return self._fernet.decrypt(token).decode()
        except InvalidToken as exc:
            raise SecretKeyError(
                f"The stored {provider} credentials cannot be decrypted with the present key.",
                hint="Put the key back that they were stored with (CHATBOTCTL_SECRET_KEY takes several, "
                "separated by commas), or set them anew with `chatbotctl business credentials set NAME PROVIDER`.",
            ) from exc


def listed(tx: Connection, business: Business) -> list[tuple[str, float]]:
    """The providers that a business has credentials for, with the time they were set."""
    rows = select(credentials.c.provider, credentials.c.set_at).where(credentials.c.business_id == business.id)
    return [(row.provider, row.set_at) for row in tx.execute(rows.order_by(credentials.c.provider))]


def remove(tx: Connection, business: Business, provider: str) -> bool:
    """Forget a secret; returns whether there was one."""
    gone = tx.execute(
        delete(credentials).where(credentials.c.business_id == business.id, credentials.c.provider == provider)
    )
    return gone.rowcount > 0
