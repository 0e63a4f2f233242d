"""Which adapter answers, sends and mirrors for which business, by what settings and credentials there are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from chatbotctl.core import secret_key
from chatbotctl.core.adapters.console import ConsoleMessenger
from chatbotctl.core.adapters.huey_wakeup import HueyWakeup
from chatbotctl.core.adapters.knowledge_base import KnowledgeBase
from chatbotctl.core.adapters.local_wakeup import LocalWakeup
from chatbotctl.core.adapters.memory_cache import MemoryCache
from chatbotctl.core.adapters.openai_chat import OpenAIChat
from chatbotctl.core.adapters.openai_responses import OpenAIResponses
from chatbotctl.core.adapters.openai_threads import OpenAIThreads
from chatbotctl.core.adapters.redis_cache import RedisCache
from chatbotctl.core.adapters.twilio_whatsapp import TwilioWhatsApp
from chatbotctl.core.config import Key
from chatbotctl.core.errors import AssistantNotUsable, ConfigurationError, SecretKeyError
from chatbotctl.core.records.business import Business
from chatbotctl.core.storage import businesses
from chatbotctl.core.wiring import Core
from tests.installs import BUSINESS, add_business, install

OPENAI: dict[Key, object] = {("openai", "api_key"): "sk-install", ("openai", "base_url"): "http://127.0.0.1:1/v1"}
TWILIO: dict[Key, object] = {("twilio", "account_sid"): "AC1", ("twilio", "auth_token"): "token-install"}
SLACK: dict[Key, object] = {("slack", "bot_token"): "xoxb-install"}
GARAGE = "whatsapp:+15550002222"


@pytest.fixture
def core() -> Iterator[Core]:
    """An install with an account everywhere."""
    with install(flags=OPENAI | TWILIO | SLACK) as made:
        secret_key.make(made.loaded.home)
        yield made


@pytest.fixture
def bare() -> Iterator[Core]:
    """An install with no account anywhere."""
    with install() as made:
        yield made


def with_own(core: Core, business: Business, provider: str, secret: str) -> Business:
    with core.database.write() as tx:
        core.vault.store(tx, business, provider, secret)
        return businesses.get(tx, business.id)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [("openai", OpenAIResponses), ("chat", OpenAIChat), ("threads", OpenAIThreads), ("knowledge", KnowledgeBase)],
)
def test_backend_chooses_the_assistant(core: Core, backend: str, kind: type) -> None:
    business = add_business(core, backend=backend, assistant_id="asst_1", base_url="http://127.0.0.1:2/v1")

    assert isinstance(core.assistant_of(business), kind)


def test_businesses_with_the_same_account_share_a_client(core: Core) -> None:
    bakery, garage = add_business(core), add_business(core, "garage", GARAGE)

    assert core.assistant_of(bakery) is core.assistant_of(garage)
    assert core.messenger_of(bakery) is core.messenger_of(garage)
    assert core.mirror_of(bakery) is core.mirror_of(garage)


@pytest.mark.parametrize("provider", ["openai", "twilio", "slack"])
def test_business_with_its_own_credentials_has_a_client_of_its_own(core: Core, provider: str) -> None:
    bakery = add_business(core)
    garage = with_own(core, add_business(core, "garage", GARAGE), provider, "AC2:own-secret")
    made = {"openai": core.assistant_of, "twilio": core.messenger_of, "slack": core.mirror_of}[provider]

    assert made(bakery) is not made(garage)
    assert made(garage) is made(garage)


def test_credentials_that_change_count_from_the_next_message_on(core: Core) -> None:
    bakery = with_own(core, add_business(core), "twilio", "AC2:first")
    first = core.messenger_of(bakery)
    bakery = with_own(core, bakery, "twilio", " AC2 : second ")

    assert core.messenger_of(bakery) is not first
    account = core._twilio_account(bakery)
    assert account is not None
    assert (account.sid, account.token) == ("AC2", "second")


def test_business_with_its_own_server_does_not_go_to_the_installs(core: Core) -> None:
    bakery, garage = add_business(core), add_business(core, "garage", GARAGE, base_url="http://127.0.0.1:2/v1")

    assert core.assistant_of(bakery) is not core.assistant_of(garage)


# what is missing


def test_without_a_key_the_assistant_is_not_usable_and_says_so(bare: Core) -> None:
    with pytest.raises(AssistantNotUsable):
        bare.assistant_of(add_business(bare))


def test_without_a_twilio_account_sending_says_how_to_get_one(bare: Core) -> None:
    with pytest.raises(ConfigurationError, match="no Twilio account") as caught:
        bare.messenger_of(add_business(bare))

    assert "business credentials set bakery twilio" in str(caught.value.hint)


def test_install_that_is_tried_out_prints_what_it_cannot_send() -> None:
    printed: list[str] = []
    with install(print_unsent=printed.append) as core:
        messenger = core.messenger_of(add_business(core))
        messenger.send(sender=BUSINESS, recipient="whatsapp:+2", body="Yes.")

    assert isinstance(messenger, ConsoleMessenger)
    assert printed == ["-> whatsapp:+2: Yes."]


def test_half_a_twilio_account_is_never_taken_for_a_trial() -> None:
    with (
        install(flags={("twilio", "account_sid"): "AC1"}, print_unsent=print) as core,
        pytest.raises(ConfigurationError),
    ):
        core.messenger_of(add_business(core))


def test_whoever_has_an_account_sends_even_when_trying_out() -> None:
    with install(flags=TWILIO, print_unsent=print) as core:
        assert isinstance(core.messenger_of(add_business(core)), TwilioWhatsApp)


def test_without_a_token_there_is_no_mirror(bare: Core) -> None:
    business = add_business(bare)

    assert bare.mirror_of(business) is None
    assert not bare.services.is_mirrored(business)


def test_own_credentials_without_the_key_file_are_an_error_and_not_the_installs(core: Core) -> None:
    bakery = with_own(core, add_business(core), "twilio", "AC2:own")
    secret_key.key_file(core.loaded.home).unlink()
    with install(flags=TWILIO) as later, pytest.raises(SecretKeyError):
        later.messenger_of(bakery)


# signatures


def signed_by(core: Core, token: str) -> bool:
    from chatbotctl.core.adapters.twilio_signature import TwilioSignature

    check = core.signature_check(core.business_at(BUSINESS))
    assert check is not None
    fields = [("Body", "x")]
    signature = TwilioSignature(token).sign(url="https://bot.example/whatsapp", fields=fields)
    return check.accepts(url="https://bot.example/whatsapp", fields=fields, body="", signature=signature)


def test_webhook_is_checked_with_the_installs_token(core: Core) -> None:
    add_business(core)

    assert signed_by(core, "token-install")
    assert not signed_by(core, "another")


def test_tenant_with_its_own_account_is_checked_with_its_own_token_only(core: Core) -> None:
    with_own(core, add_business(core), "twilio", "AC2:own")

    assert signed_by(core, "own")
    assert not signed_by(core, "token-install")


def test_unknown_number_is_still_checked(core: Core) -> None:
    assert core.signature_check(core.business_at("whatsapp:+19999999999")) is not None


def test_without_any_token_nothing_can_be_checked(bare: Core) -> None:
    assert bare.signature_check(bare.business_at(BUSINESS)) is None


# the cache and the translator


def test_redis_url_alone_chooses_the_cache(bare: Core) -> None:
    assert isinstance(bare.services.cache, MemoryCache)
    with pytest.raises(ConfigurationError, match="inside the server's process"), bare.strict_cache():
        pass
    assert bare.shared_cache() is None

    with install(redis_url="redis://127.0.0.1:1/0") as core:
        assert isinstance(core.services.cache, RedisCache)
        with core.strict_cache() as cache:
            assert isinstance(cache, RedisCache)
            assert cache is not core.services.cache
        assert core.shared_cache() is not None


def test_redis_url_alone_chooses_how_workers_are_woken(bare: Core) -> None:
    assert isinstance(bare.services.wakeup, LocalWakeup)

    with install(redis_url="redis://127.0.0.1:1/0") as core:
        assert isinstance(core.services.wakeup, HueyWakeup)


def test_translation_is_off_by_default(bare: Core) -> None:
    business = add_business(bare, language="pt")

    assert bare.services.translator is None
    assert bare.services.working_language(business) is None
    with install(flags={("translate", "enabled"): True, ("translate", "target_language"): "en"}) as core:
        assert core.services.translator is not None
        assert core.services.working_language(business) == "pt"
        assert core.services.working_language(Business(id=9, name="x", whatsapp_address=GARAGE)) == "en"


def test_building_a_core_loads_no_vendors_sdk_and_connects_nowhere() -> None:
    program = """
import sys
from chatbotctl.core import config
from chatbotctl.core.wiring import Core
flags = {("redis", "url"): "redis://127.0.0.1:1/0", ("database", "url"): "postgresql://127.0.0.1:1/x",
         ("translate", "enabled"): True, ("metrics", "port"): 0}
Core(config.load(flags=flags)).close()
sdks = ("openai", "twilio", "slack_sdk", "google.cloud", "bm25s", "huey", "prometheus_client")
print([name for name in sdks if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


def test_closed_core_may_be_closed_again(bare: Core) -> None:
    bare.close()
    bare.close()
