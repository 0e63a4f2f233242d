"""Knowledge files and their copies at the AI provider: what is there after runs that end well, badly, or in between."""

from __future__ import annotations

import _thread
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbotctl.core.adapters.openai_vector_stores import OpenAIVectorStores
from chatbotctl.core.errors import AssistantError, ConflictError
from chatbotctl.core.records.business import Business
from chatbotctl.core.storage import businesses, knowledge
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.upkeep import knowledge_sync
from chatbotctl.core.upkeep.knowledge_sync import Plan
from tests import installs
from tests.fakes.loopback import Request, Response
from tests.fakes.openai_server import FakeOpenAI


class Install:
    """One business with its files here and at the provider."""

    def __init__(self, database: Database, fake: FakeOpenAI) -> None:
        self.database, self.fake = database, fake
        self.store = OpenAIVectorStores(api_key="sk-test", base_url=fake.base_url, indexing_timeout=5.0)
        self.id = installs.add_business(database, "luna").id
        self.advanced = 0

    @property
    def business(self) -> Business:
        with self.database.read() as tx:
            return businesses.get(tx, self.id)

    @property
    def uploads(self) -> int:
        return len(self.fake.seen("/v1/files", "POST"))

    def put(self, name: str, text: str) -> None:
        with self.database.write() as tx:
            knowledge.put(tx, self.business, name, text.encode())

    def prepare(self) -> Plan:
        return knowledge_sync.prepare(self.database, self.store, self.business)

    def carry_out(self, plan: Plan, *, attempts: int = 1) -> None:
        knowledge_sync.carry_out(self.database, self.store, plan, attempts=attempts, advance=self._advance)

    def sync(self, *, attempts: int = 1) -> Plan:
        plan = self.prepare()
        self.carry_out(plan, attempts=attempts)
        return plan

    def take_away(self) -> None:
        with self.database.read() as tx:
            files = knowledge.listed(tx, self.business)
        knowledge_sync.take_away(self.database, self.store, files, advance=self._advance)

    def searched(self) -> dict[str, str]:
        """What the business's assistant can find at the provider: file name -> text. One copy of each."""
        found: dict[str, str] = {}
        for store_id in self.business.vector_store_ids:
            for file_id in self.fake.vector_stores.stores[store_id].files:
                file = self.fake.vector_stores.files[file_id]
                assert file.filename not in found, f"{file.filename} stands there twice"
                found[file.filename] = file.content.decode()
        return found

    def kept_at_provider(self) -> list[str]:
        """The names of all files of the account, found by a search or not."""
        return sorted(file.filename for file in self.fake.vector_stores.files.values())

    def _advance(self, count: int) -> None:
        self.advanced += count


@pytest.fixture
def luna(tmp_path: Path, fake_openai: FakeOpenAI) -> Iterator[Install]:
    fake_openai.vector_stores.polls = 0
    database = Database(installs.sqlite_database(tmp_path))
    install = Install(database, fake_openai)
    yield install
    install.store.close()
    database.close()


def test_files_are_copied_to_a_store_that_the_assistant_searches(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    luna.put("prices.txt", "Bread: 3 EUR")
    plan = luna.sync()
    assert luna.searched() == {"faq.md": "Nine to five.", "prices.txt": "Bread: 3 EUR"}
    assert luna.business.vector_store_ids == (plan.store_id,)
    assert luna.advanced == 2
    assert [store.name for store in luna.fake.vector_stores.stores.values()] == ["chatbotctl luna"]


def test_second_run_uploads_nothing(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    first = luna.sync()
    before = luna.uploads
    second = luna.sync()
    assert (second.pending, second.unchanged, second.store_id) == ((), 1, first.store_id)
    assert (before, luna.uploads) == (1, 1)
    assert luna.business.vector_store_ids == (first.store_id,)


def test_business_without_files_needs_no_store(luna: Install) -> None:
    assert luna.sync().store_id is None
    assert luna.fake.requests == []


def test_changed_file_replaces_its_copy(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    first = luna.sync()
    luna.put("faq.md", "Ten to six.")
    second = luna.sync()
    assert luna.searched() == {"faq.md": "Ten to six."}
    assert luna.kept_at_provider() == ["faq.md"]
    assert second.store_id == first.store_id
    assert len(luna.fake.vector_stores.stores) == 1


def test_new_file_joins_the_others(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    luna.sync()
    luna.put("prices.txt", "Bread: 3 EUR")
    plan = luna.sync()
    assert ([file.name for file in plan.pending], plan.unchanged) == (["prices.txt"], 1)
    assert luna.searched() == {"faq.md": "Nine to five.", "prices.txt": "Bread: 3 EUR"}


def test_store_that_an_operator_named_is_searched_too_but_gets_no_file(luna: Install) -> None:
    shared = luna.fake.vector_stores.add("vs_shared")
    with luna.database.write() as tx:
        businesses.change(tx, luna.business, {"vector_store_ids": ("vs_shared",)})
    luna.put("faq.md", "Nine to five.")
    plan = luna.sync()
    assert luna.business.vector_store_ids == ("vs_shared", plan.store_id)
    assert shared.files == {}


def test_store_that_the_provider_lost_is_made_anew_and_filled(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    luna.put("prices.txt", "Bread: 3 EUR")
    lost = luna.sync().store_id
    assert lost is not None
    del luna.fake.vector_stores.stores[lost]
    plan = luna.sync()
    assert luna.business.vector_store_ids == (plan.store_id,)
    assert luna.searched() == {"faq.md": "Nine to five.", "prices.txt": "Bread: 3 EUR"}
    assert luna.kept_at_provider() == ["faq.md", "prices.txt"]


def test_store_that_an_operator_took_off_the_business_is_put_back(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    store_id = luna.sync().store_id
    with luna.database.write() as tx:
        businesses.change(tx, luna.business, {"vector_store_ids": ()})
    plan = luna.sync()
    assert (plan.pending, luna.business.vector_store_ids) == ((), (store_id,))


@pytest.mark.parametrize(
    ("name", "sent"),
    [("guide.markdown", "guide.md"), ("shipping/faq.md", "shipping-faq.md"), ("PRICES.TXT", "PRICES.txt")],
)
def test_file_is_sent_under_a_name_that_the_provider_takes(luna: Install, name: str, sent: str) -> None:
    luna.put(name, "Nine to five.")
    luna.sync()
    assert luna.kept_at_provider() == [sent]


def test_file_that_the_provider_does_not_take_stops_no_other_and_is_named(luna: Install) -> None:
    luna.put("a.md", "Nine to five.")
    luna.put("b.md", "Ten to six.")
    luna.put("c.md", "Closed.")
    refused = Response(400, {"error": {"message": "No.", "code": "invalid_file"}})
    plan = luna.prepare()
    luna.fake.plan("/v1/files", method="POST", response=refused)
    with pytest.raises(AssistantError) as caught:
        luna.carry_out(plan)
    assert caught.value.message == "The AI provider did not take 1 of the files: a.md (invalid_file)."
    assert "knowledge remove luna" in (caught.value.hint or "")
    assert luna.searched() == {"b.md": "Ten to six.", "c.md": "Closed."}
    assert luna.advanced == 3
    luna.sync()
    assert sorted(luna.searched()) == ["a.md", "b.md", "c.md"]


def test_outage_stops_the_run_and_the_next_one_goes_on(luna: Install) -> None:
    for name in ("a.md", "b.md", "c.md"):
        luna.put(name, name)
    plan = luna.prepare()
    luna.carry_out(Plan(business=plan.business, store_id=plan.store_id, pending=plan.pending[:1], unchanged=0))
    luna.fake.plan("/v1/files", method="POST", response=Response(503, {}))
    with pytest.raises(AssistantError) as caught:
        luna.sync()
    assert caught.value.message.startswith("b.md could not be uploaded.")
    assert "knowledge sync luna" in (caught.value.hint or "")
    assert luna.searched() == {"a.md": "a.md"}
    assert [file.name for file in luna.sync().pending] == ["b.md", "c.md"]
    assert sorted(luna.searched()) == ["a.md", "b.md", "c.md"]


def test_provider_that_is_busy_for_a_moment_is_asked_again(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    plan = luna.prepare()
    luna.fake.plan("/v1/files", method="POST", response=Response(429, {}, {"Retry-After": "0"}))
    luna.carry_out(plan, attempts=2)
    assert luna.searched() == {"faq.md": "Nine to five."}


def test_key_that_is_refused_stops_at_the_first_file(luna: Install) -> None:
    luna.put("a.md", "Nine to five.")
    luna.put("b.md", "Ten to six.")
    plan = luna.prepare()
    luna.fake.plan("/v1/files", method="POST", times=9, response=Response(401, {}))
    with pytest.raises(AssistantError, match=r"a\.md could not be uploaded\. The AI provider refused the API key"):
        luna.carry_out(plan)
    assert luna.uploads == 1


def test_old_copy_that_cannot_be_deleted_leaves_the_old_state(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    luna.sync()
    luna.put("faq.md", "Ten to six.")
    plan = luna.prepare()
    luna.fake.plan("/vector_stores/", method="DELETE", response=Response(500, {}))
    with pytest.raises(AssistantError):
        luna.carry_out(plan)
    assert luna.searched() == {"faq.md": "Nine to five."}
    luna.sync()
    assert luna.searched() == {"faq.md": "Ten to six."}
    assert luna.kept_at_provider() == ["faq.md"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_a_file_is_indexed_leaves_no_copy_behind(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    plan = luna.prepare()
    luna.fake.vector_stores.polls = 1000
    answer = luna.fake.handle

    def interrupt(request: Request) -> Response:
        if request.method == "GET" and "/files/" in request.path:
            _thread.interrupt_main()
        return answer(request)

    luna.fake.handle = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        luna.carry_out(plan)
    assert luna.kept_at_provider() == []
    luna.fake.vector_stores.polls = 0
    luna.sync()
    assert luna.searched() == {"faq.md": "Nine to five."}


def test_two_runs_at_once_leave_one_copy(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    slower, quicker = luna.prepare(), luna.prepare()
    luna.carry_out(quicker)
    with pytest.raises(ConflictError, match=r"faq\.md was removed, or uploaded by another run"):
        luna.carry_out(slower)
    assert luna.searched() == {"faq.md": "Nine to five."}
    assert luna.kept_at_provider() == ["faq.md"]
    assert slower.store_id == quicker.store_id


def test_two_first_runs_at_once_share_one_store(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")

    class Overtaken(OpenAIVectorStores):
        def ensure_store(self, *, name: str, store_id: str | None) -> str:
            made = super().ensure_store(name=name, store_id=store_id)
            luna.sync()
            return made

    store = Overtaken(api_key="sk-test", base_url=luna.fake.base_url)
    plan = knowledge_sync.prepare(luna.database, store, luna.business)
    store.close()
    assert plan.pending == ()
    assert luna.business.vector_store_ids == (plan.store_id,)
    assert luna.searched() == {"faq.md": "Nine to five."}


def test_file_that_was_removed_meanwhile_is_left_out(luna: Install) -> None:
    luna.put("a.md", "Nine to five.")
    luna.put("b.md", "Ten to six.")
    plan = luna.prepare()
    with luna.database.write() as tx:
        knowledge.remove(tx, plan.pending[0])
    luna.carry_out(plan)
    assert luna.searched() == {"b.md": "Ten to six."}


def test_file_that_changed_meanwhile_is_still_pending(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    plan = luna.prepare()
    luna.put("faq.md", "Ten to six.")
    luna.carry_out(plan)
    luna.sync()
    assert luna.searched() == {"faq.md": "Ten to six."}
    assert luna.sync().pending == ()


def test_copies_that_were_taken_away_are_gone_and_can_come_back(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    luna.put("local.md", "Ten to six.")
    plan = luna.prepare()
    luna.carry_out(Plan(business=plan.business, store_id=plan.store_id, pending=plan.pending[:1], unchanged=0))
    luna.advanced = 0
    luna.take_away()
    assert (luna.kept_at_provider(), luna.advanced) == ([], 1)
    luna.take_away()  # nothing left: fine
    luna.sync()
    assert sorted(luna.searched()) == ["faq.md", "local.md"]
    assert len(luna.fake.vector_stores.stores) == 1


def test_copy_that_cannot_be_deleted_stays_on_record(luna: Install) -> None:
    luna.put("faq.md", "Nine to five.")
    luna.sync()
    luna.fake.plan("/v1/files/", method="DELETE", response=Response(500, {}))
    with pytest.raises(AssistantError):
        luna.take_away()
    luna.take_away()
    assert luna.kept_at_provider() == []


def test_one_business_never_uses_anothers_store(luna: Install) -> None:
    other_id = installs.add_business(luna.database, "garage", "whatsapp:+15550002222").id
    luna.put("faq.md", "Nine to five.")
    luna.sync()
    with luna.database.write() as tx:
        other = businesses.get(tx, other_id)
        knowledge.put(tx, other, "faq.md", b"Tyres")
    plan = knowledge_sync.prepare(luna.database, luna.store, other)
    luna.carry_out(plan)
    assert luna.searched() == {"faq.md": "Nine to five."}
    with luna.database.read() as tx:
        assert businesses.get(tx, other_id).vector_store_ids == (plan.store_id,)


def test_all_of_it_holds_on_postgresql(postgres_url: str, fake_openai: FakeOpenAI) -> None:
    installs.migrate_database(postgres_url)
    database = Database(postgres_url)
    luna = Install(database, fake_openai)
    luna.put("faq.md", "Nine to five.")
    luna.sync()
    luna.put("faq.md", "Ten to six.")
    luna.put("prices.txt", "Bread: 3 EUR")
    luna.sync()
    assert luna.searched() == {"faq.md": "Ten to six.", "prices.txt": "Bread: 3 EUR"}
    assert luna.sync().pending == ()
    luna.take_away()
    assert luna.kept_at_provider() == []
    luna.store.close()
    database.close()
