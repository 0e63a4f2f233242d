"""`business knowledge`: files are kept here, answered from, and copied to OpenAI for the backend openai."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import Run, chatbotctl
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI
from tests.unit.commands import business_site as site


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_openai: FakeOpenAI) -> None:
    site.set_up(monkeypatch, tmp_path, fake_openai)
    Path("faq.md").write_text("# Opening hours\n\nNine to five.\n")
    Path("prices.txt").write_text("Bread: 3 EUR")


def _knowledge(command: str, *args: str) -> Run:
    return chatbotctl("business", "knowledge", command, "luna", *args)


def _files() -> dict[str, bool]:
    """Name -> whether the provider has it."""
    return {file["name"]: file["uploaded"] for file in _knowledge("list", "--json").json}


def _copies(fake: FakeOpenAI) -> list[str]:
    return sorted(file.filename for file in fake.vector_stores.files.values())


# add


def test_offline_business_answers_from_a_file_that_was_added(fake_openai: FakeOpenAI) -> None:
    site.add("luna")
    run = _knowledge("add", "faq.md", "prices.txt")
    assert (run.code, run.out) == (0, "")
    assert "Kept 2 files (2 new) for luna." in run.err
    said = chatbotctl("simulate", "--from", "+15557654321", "--body", "What are your opening hours?")
    assert "Nine to five" in said.out
    assert fake_openai.requests == []


def test_file_added_again_replaces_the_one_of_its_name() -> None:
    site.add("luna")
    _knowledge("add", "faq.md", "prices.txt")
    Path("faq.md").write_text("# Opening hours\n\nTen to six.\n")
    Path("new.md").write_text("New")
    run = _knowledge("add", "faq.md", "prices.txt", "new.md")
    assert "Kept 3 files (1 new, 1 changed, 1 unchanged) for luna." in run.err
    said = chatbotctl("simulate", "--from", "+15557654321", "--body", "What are your opening hours?")
    assert "Ten to six" in said.out


def test_one_bad_file_keeps_all_out() -> None:
    site.add("luna")
    Path("bad.md").write_bytes(b"caf\xe9")
    run = _knowledge("add", "faq.md", "bad.md")
    assert run.code == 7
    assert "bad.md is not a UTF-8 text" in run.err
    assert _files() == {}


def test_file_that_is_missing_is_not_found() -> None:
    site.add("luna")
    assert _knowledge("add", "nothing.md").code == 3


def test_openai_business_has_its_files_uploaded_and_searched(fake_openai: FakeOpenAI) -> None:
    site.add("luna", "--backend", "openai")
    run = _knowledge("add", "faq.md", "prices.txt")
    assert run.code == 0
    assert "Uploaded 2; 0 were there already" in run.err
    assert _files() == {"faq.md": True, "prices.txt": True}
    assert _copies(fake_openai) == ["faq.md", "prices.txt"]
    chatbotctl("simulate", "--from", "+15557654321", "--body", "Hello")
    (asked,) = fake_openai.seen("/v1/responses")
    assert asked.json["tools"][0]["vector_store_ids"] == site.show()["vector_stores"]


def test_upload_can_wait(fake_openai: FakeOpenAI) -> None:
    site.add("luna", "--backend", "openai")
    run = _knowledge("add", "faq.md", "--no-sync")
    assert run.code == 0
    assert "chatbotctl business knowledge sync luna" in run.err
    assert _files() == {"faq.md": False}
    assert fake_openai.requests == []


def test_file_is_kept_when_the_upload_fails_and_sync_goes_on(fake_openai: FakeOpenAI) -> None:
    site.add("luna", "--backend", "openai")
    fake_openai.plan("/v1/files", method="POST", response=Response(503, {}))
    run = _knowledge("add", "faq.md")
    assert run.code == 5
    assert "Kept 1 file" in run.err
    assert "chatbotctl business knowledge sync luna" in run.err
    assert _files() == {"faq.md": False}
    assert _knowledge("sync").code == 0
    assert _files() == {"faq.md": True}


def test_without_an_api_key_the_file_is_kept_and_the_key_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("luna", "--backend", "openai")
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    run = _knowledge("add", "faq.md")
    assert run.code == 4
    assert "business credentials set" in run.err
    assert _files() == {"faq.md": False}


@pytest.mark.parametrize("backend", ["chat", "threads"])
def test_backend_that_reads_no_files_says_so(backend: str) -> None:
    site.add("luna", "--backend", backend)
    run = _knowledge("add", "faq.md")
    assert run.code == 0
    assert f"The backend {backend} does not read its 1 knowledge files." in run.err


# list


def test_list_json_has_the_keys_that_scripts_rely_on() -> None:
    site.add("luna")
    _knowledge("add", "prices.txt")
    (file,) = _knowledge("list", "--json").json
    assert file.pop("added_at").endswith("Z")
    assert file == {
        "name": "prices.txt",
        "size": 12,
        "sha256": "cafd827ca84847496fdaaa0a3b5e8cad23f31d489dfcf8f62497ede29e01dcbd",
        "uploaded": False,
    }


def test_list_of_a_business_that_reads_its_files_here_speaks_of_no_copies() -> None:
    site.add("luna")
    _knowledge("add", "faq.md")
    assert _knowledge("list").out.splitlines()[1].split()[-1] == "-"


def test_list_for_people_says_what_the_provider_has() -> None:
    site.add("luna", "--backend", "openai")
    _knowledge("add", "faq.md", "prices.txt")
    Path("faq.md").write_text("Changed")
    Path("new.md").write_text("New")
    _knowledge("add", "faq.md", "new.md", "--no-sync")
    changed, new, same = (line.rstrip() for line in _knowledge("list").out.splitlines()[1:])
    assert changed.startswith("faq.md ") and changed.endswith(" an older version")
    assert new.startswith("new.md ") and new.endswith(" no")
    assert same.startswith("prices.txt ") and same.endswith(" yes")


def test_empty_list_says_what_to_type() -> None:
    site.add("luna")
    run = _knowledge("list")
    assert (run.code, run.out) == (0, "")
    assert "chatbotctl business knowledge add luna PATH" in run.err


# remove


def test_removed_file_is_gone_here_and_at_the_provider(fake_openai: FakeOpenAI) -> None:
    site.add("luna", "--backend", "openai")
    _knowledge("add", "faq.md", "prices.txt")
    run = _knowledge("remove", "faq.md", "--yes")
    assert run.code == 0
    assert "Removed faq.md from the knowledge of luna." in run.err
    assert _files() == {"prices.txt": True}
    assert _copies(fake_openai) == ["prices.txt"]


def test_copy_is_deleted_also_when_the_backend_is_another_by_now(fake_openai: FakeOpenAI) -> None:
    site.add("luna", "--backend", "openai")
    _knowledge("add", "faq.md")
    chatbotctl("business", "update", "luna", "--backend", "knowledge")
    assert _knowledge("remove", "faq.md", "--yes").code == 0
    assert _copies(fake_openai) == []


def test_provider_that_is_down_keeps_the_file_unless_its_copy_may_stay(fake_openai: FakeOpenAI) -> None:
    site.add("luna", "--backend", "openai")
    _knowledge("add", "faq.md")
    fake_openai.plan("/files/", method="DELETE", times=9, response=Response(500, {}))
    run = _knowledge("remove", "faq.md", "--yes")
    assert run.code == 5
    assert "--keep-uploads" in run.err
    assert _files() == {"faq.md": True}
    assert _knowledge("remove", "faq.md", "--yes", "--keep-uploads").code == 0
    assert _files() == {}
    assert _copies(fake_openai) == ["faq.md"]


def test_remove_asks_and_needs_yes_where_nobody_can_be_asked() -> None:
    site.add("luna")
    _knowledge("add", "faq.md")
    assert _knowledge("remove", "faq.md").code == 7
    run = _knowledge("remove", "faq.md", "--dry-run")
    assert (run.code, "Would remove faq.md" in run.err) == (0, True)
    assert _files() == {"faq.md": False}


def test_remove_of_a_file_that_is_not_there_changes_nothing() -> None:
    site.add("luna")
    _knowledge("add", "faq.md")
    run = _knowledge("remove", "faq.md", "nothing.md", "--yes")
    assert run.code == 3
    assert "knowledge list luna" in run.err
    assert _files() == {"faq.md": False}


# sync


def test_sync_twice_uploads_once(fake_openai: FakeOpenAI) -> None:
    site.add("luna", "--backend", "openai")
    _knowledge("add", "faq.md", "--no-sync")
    assert "Uploaded 1; 0 were there already" in _knowledge("sync").err
    assert "Nothing to upload; 1 were there already" in _knowledge("sync").err
    assert len(fake_openai.seen("/v1/files", "POST")) == 1


def test_sync_without_files_does_nothing(fake_openai: FakeOpenAI) -> None:
    site.add("luna", "--backend", "openai")
    run = _knowledge("sync")
    assert (run.code, fake_openai.requests) == (0, [])
    assert "no knowledge files" in run.err


def test_sync_of_an_offline_business_has_nothing_to_do(fake_openai: FakeOpenAI) -> None:
    site.add("luna")
    _knowledge("add", "faq.md")
    run = _knowledge("sync")
    assert (run.code, fake_openai.requests) == (0, [])
    assert "reads its files here" in run.err


@pytest.mark.parametrize("backend", ["chat", "threads"])
def test_sync_where_no_store_is_searched_is_refused(backend: str) -> None:
    site.add("luna", "--backend", backend)
    run = _knowledge("sync")
    assert run.code == 7
    assert "--backend openai" in run.err


def test_unknown_business_is_not_found() -> None:
    for command in (["add", "nova", "faq.md"], ["list", "nova"], ["remove", "nova", "faq.md"], ["sync", "nova"]):
        assert chatbotctl("business", "knowledge", *command).code == 3
