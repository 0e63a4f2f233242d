"""Businesses, their credentials and their files on both stores: what is kept, what clashes, and whose it is."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from chatbotctl.core.errors import AlreadyExists, BusinessNotFound, NotFoundError, SecretKeyError
from chatbotctl.core.records.business import Backend, Business, History, Layout
from chatbotctl.core.storage import businesses, credentials, knowledge
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.credentials import Vault
from chatbotctl.core.storage.engine import Database
from tests.contract import store
from tests.installs import BUSINESS, add_business

GARAGE = "whatsapp:+15550002222"


@pytest.fixture
def bakery(database: Database) -> Business:
    return add_business(database, slack_users=["U2", "U1", "U2"])


@pytest.fixture
def garage(database: Database) -> Business:
    return add_business(database, "garage", GARAGE)


def again(database: Database, business: Business) -> Business:
    with database.read() as tx:
        return businesses.get(tx, business.id)


# kept and found


def test_business_comes_back_with_everything_it_was_given(database: Database) -> None:
    added = add_business(
        database,
        slack_users=["U1"],
        backend=Backend.THREADS.value,
        model="gpt-test",
        base_url="http://127.0.0.1:1/v1",
        instructions="Be brief. Sé breve. 简短。",
        assistant_id="asst_1",
        vector_store_ids=("vs_1", "vs_2"),
        history=History.LOCAL.value,
        language="pt-BR",
        apology="",
        max_message_chars=500,
        slack_layout=Layout.THREAD.value,
    )

    assert added == Business(
        id=added.id,
        name="bakery",
        whatsapp_address=BUSINESS,
        backend=Backend.THREADS,
        model="gpt-test",
        base_url="http://127.0.0.1:1/v1",
        instructions="Be brief. Sé breve. 简短。",
        assistant_id="asst_1",
        vector_store_ids=("vs_1", "vs_2"),
        history=History.LOCAL,
        language="pt-BR",
        apology="",
        max_message_chars=500,
        slack_layout=Layout.THREAD,
        slack_user_ids=("U1",),
    )


def test_business_is_found_by_name_number_and_id(database: Database, bakery: Business, garage: Business) -> None:
    with database.read() as tx:
        assert businesses.by_name(tx, "bakery") == businesses.find_by_address(tx, BUSINESS) == bakery
        assert businesses.find_by_address(tx, "whatsapp:+15559999999") is None
        assert [business.name for business in businesses.listed(tx)] == ["bakery", "garage"]


def test_unknown_name_is_answered_with_those_that_there_are(database: Database, bakery: Business) -> None:
    with database.read() as tx, pytest.raises(BusinessNotFound, match="'bakry'") as caught:
        businesses.by_name(tx, "bakry")

    assert caught.value.hint == "Use one of: bakery."


def test_first_unknown_name_says_how_to_add_one(database: Database) -> None:
    with database.read() as tx, pytest.raises(BusinessNotFound) as caught:
        businesses.by_name(tx, "bakery")

    assert "business add" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "number", "clash"), [("bakery", GARAGE, "called 'bakery'"), ("other", BUSINESS, r"belongs to .*'bakery'")]
)
def test_taken_name_or_number_is_refused_and_the_transaction_goes_on(
    database: Database, bakery: Business, name: str, number: str, clash: str
) -> None:
    with database.write() as tx:
        with pytest.raises(AlreadyExists, match=clash):
            businesses.add(tx, name=name, whatsapp_address=number, values={})
        businesses.set_disabled(tx, bakery, True, "closed for good")

    assert again(database, bakery).disabled_reason == "closed for good"


def test_change_touches_what_it_names_and_nothing_else(database: Database, bakery: Business, garage: Business) -> None:
    with database.write() as tx:
        changed = businesses.change(tx, bakery, {"model": "gpt-new", "vector_store_ids": ("vs_9",)})
        assert businesses.change(tx, bakery, {}) == changed

    assert (changed.model, changed.vector_store_ids, changed.name) == ("gpt-new", ("vs_9",), "bakery")
    assert again(database, garage) == garage


def test_change_to_anothers_number_is_refused(database: Database, bakery: Business, garage: Business) -> None:
    with database.write() as tx, pytest.raises(AlreadyExists, match=r"belongs to .*'garage'"):
        businesses.change(tx, bakery, {"whatsapp_address": GARAGE})

    assert again(database, bakery) == bakery


def test_misspelt_column_is_a_mistake_of_ours_not_a_business(database: Database) -> None:
    with database.write() as tx, pytest.raises(KeyError, match="modle"):
        businesses.add(tx, name="x", whatsapp_address=GARAGE, values={"modle": "m"})

    assert store.count(database, tables.businesses) == 0


def test_disabling_fences_every_conversation_and_enabling_forgets_the_reason(
    database: Database, bakery: Business, garage: Business
) -> None:
    store.take(database, bakery)
    store.take(database, garage)
    with database.write() as tx:
        businesses.set_disabled(tx, bakery, True, "holidays")
    assert [row.epoch for row in store.rows(database, tables.business_clients)] == [1, 0]
    assert (again(database, bakery).is_disabled, again(database, bakery).disabled_reason) == (True, "holidays")

    with database.write() as tx:
        businesses.set_disabled(tx, bakery, False, "ignored")

    assert (again(database, bakery).is_disabled, again(database, bakery).disabled_reason) == (False, None)


def test_slack_users_are_kept_once_each_and_replaced_as_a_whole(database: Database, bakery: Business) -> None:
    assert bakery.slack_user_ids == ("U1", "U2")

    with database.write() as tx:
        businesses.change(tx, bakery, {"slack_user_ids": ("U3", "U3")})
        businesses.set_slack_channel(tx, bakery.id, "C1")

    assert (again(database, bakery).slack_user_ids, again(database, bakery).slack_channel) == (("U3",), "C1")
    with database.write() as tx:
        assert businesses.change(tx, bakery, {"model": "gpt-test"}).slack_user_ids == ("U3",)
        assert businesses.change(tx, bakery, {"slack_user_ids": ()}).slack_user_ids == ()


def test_removed_business_takes_everything_of_its_own_along_and_nothing_of_others(
    database: Database, bakery: Business, garage: Business
) -> None:
    vault = Vault([Fernet.generate_key().decode()])
    for business in (bakery, garage):
        turn = store.open_turn(database, store.take(database, business).conversation_id)
        store.finish(database, turn)
        with database.write() as tx:
            vault.store(tx, business, "openai", "sk-1")
            knowledge.put(tx, business, "faq.md", b"# Hours")

    with database.write() as tx:
        assert businesses.remove(tx, bakery) == 1

    assert again(database, garage).own_credentials == {"openai"}
    for table in (tables.business_clients, tables.inbound_messages, tables.turns, tables.credentials):
        assert store.count(database, table) == 1, table.name
    assert store.count(database, tables.knowledge_files) == 1
    assert store.count(database, tables.slack_user_ids) == 0


# credentials


def test_credentials_are_encrypted_at_rest_and_come_back(database: Database, bakery: Business) -> None:
    vault = Vault([Fernet.generate_key().decode()])
    with database.write() as tx:
        vault.store(tx, bakery, "openai", "sk-canary-ü")

    (row,) = store.rows(database, tables.credentials)
    assert b"canary" not in row.secret
    with database.read() as tx:
        assert vault.secret(tx, bakery.id, "openai") == "sk-canary-ü"
        assert [provider for provider, _ in credentials.listed(tx, bakery)] == ["openai"]
    assert again(database, bakery).own_credentials == {"openai"}


def test_credentials_of_one_business_are_not_anothers(database: Database, bakery: Business, garage: Business) -> None:
    vault = Vault([Fernet.generate_key().decode()])
    with database.write() as tx:
        vault.store(tx, bakery, "slack", "xoxb-bakery")
        vault.store(tx, garage, "slack", "xoxb-garage")

    with database.write() as tx:
        assert vault.secret(tx, garage.id, "slack") == "xoxb-garage"
        assert vault.secret(tx, garage.id, "openai") is None
        assert credentials.remove(tx, bakery, "slack")
        assert not credentials.remove(tx, bakery, "slack")
        assert vault.secret(tx, garage.id, "slack") == "xoxb-garage"


def test_set_again_replaces(database: Database, bakery: Business) -> None:
    vault = Vault([Fernet.generate_key().decode()])
    for secret in ("old", "new"):
        with database.write() as tx:
            vault.store(tx, bakery, "twilio", secret)

    with database.read() as tx:
        assert vault.secret(tx, bakery.id, "twilio") == "new"
    assert store.count(database, tables.credentials) == 1


def test_key_rotates_new_key_in_front_reads_what_the_old_one_wrote(database: Database, bakery: Business) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    with database.write() as tx:
        Vault([old]).store(tx, bakery, "openai", "sk-1")
        assert Vault([new, old]).secret(tx, bakery.id, "openai") == "sk-1"
        Vault([new, old]).store(tx, bakery, "openai", "sk-2")
        assert Vault([new]).secret(tx, bakery.id, "openai") == "sk-2"


def test_wrong_key_is_said_in_words_and_shows_nothing(database: Database, bakery: Business) -> None:
    with database.write() as tx:
        Vault([Fernet.generate_key().decode()]).store(tx, bakery, "openai", "sk-canary")

    with database.read() as tx, pytest.raises(SecretKeyError, match="openai credentials cannot be decrypted") as caught:
        Vault([Fernet.generate_key().decode()]).secret(tx, bakery.id, "openai")
    assert "canary" not in f"{caught.value}{caught.value.hint}"


# knowledge files


def test_file_is_kept_by_name_and_the_same_content_is_no_change(database: Database, bakery: Business) -> None:
    with database.write() as tx:
        assert knowledge.put(tx, bakery, "faq.md", b"# Hours")
        before = knowledge.version(tx, bakery)
        assert not knowledge.put(tx, bakery, "faq.md", b"# Hours")
        assert knowledge.version(tx, bakery) == before
        assert knowledge.put(tx, bakery, "faq.md", "# Öffnungszeiten".encode())
        assert knowledge.version(tx, bakery) != before
        (file,) = knowledge.listed(tx, bakery)
        assert knowledge.content(tx, file).decode() == "# Öffnungszeiten"

    assert (file.name, file.size) == ("faq.md", len("# Öffnungszeiten".encode()))


def test_offline_assistant_reads_texts_only_and_survives_odd_bytes(database: Database, bakery: Business) -> None:
    with database.write() as tx:
        knowledge.put(tx, bakery, "a.TXT", b"caf\xe9")
        knowledge.put(tx, bakery, "b.pdf", b"%PDF")
        knowledge.put(tx, bakery, "c.md", b"")
        assert knowledge.texts(tx, bakery) == [("a.TXT", "caf\ufffd"), ("c.md", "")]


def test_files_of_one_business_are_not_anothers(database: Database, bakery: Business, garage: Business) -> None:
    with database.write() as tx:
        knowledge.put(tx, bakery, "faq.md", b"secret recipe")
        assert knowledge.texts(tx, garage) == []
        assert knowledge.listed(tx, garage) == []
        with pytest.raises(NotFoundError, match="garage has no knowledge file"):
            knowledge.get(tx, garage, "faq.md")
        knowledge.remove(tx, knowledge.get(tx, bakery, "faq.md"))
        assert knowledge.listed(tx, bakery) == []


def test_what_goes_with_a_business_is_found_by_index(database: Database) -> None:
    """Of each row that goes the database looks for what belongs to it: in a table of millions, for a second each."""
    with database.write() as tx:
        if not database.is_sqlite:
            tx.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        for table in tables.metadata.sorted_tables:
            for key in table.foreign_keys:
                look = f"{explain} SELECT 1 FROM {table.name} WHERE {key.parent.name} = 1"
                plan = "\n".join(str(step[-1]) for step in tx.exec_driver_sql(look))
                assert "SCAN" not in plan and "Seq Scan" not in plan, f"{table.name}.{key.parent.name}: {plan}"
