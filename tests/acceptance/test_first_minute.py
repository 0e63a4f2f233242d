"""A machine with nothing: `serve --demo`, and what its greeting tells a person to try."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess

import requests

from tests.acceptance.install import ANA, SHOP, Install, wait_for


def test_the_demo_answers_a_simulation_and_a_curl_and_shows_the_thread(empty_install: Install) -> None:
    server = empty_install.serve("--demo")
    wait_for("the whole greeting", lambda: "thread show" in server.log)
    assert "No Twilio account is set up: replies are printed here instead of sent." in server.log

    simulated = empty_install.ok("simulate", "--from", "+15557654321", "--body", "Do you deliver?")
    assert "within 5 km of the bakery" in simulated.out

    curl = re.search(r"curl (?:.*\\\n)*.*", server.log)
    assert curl is not None
    words = [word for word in shlex.split(curl[0].replace("\\\n", " ")) if word.strip()]
    done = subprocess.run([*words, "-sS"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '{"success": true}'
    assert "7:00" in server.log, "the reply that nobody sends is printed"

    shown = empty_install.ok("thread", "show", "--from", ANA)
    assert "Do you deliver?" in shown.out
    assert "When do you open?" in shown.out
    assert "within 5 km" in shown.out


def test_a_second_start_of_the_demo_goes_on_where_the_first_one_stopped(empty_install: Install) -> None:
    first = empty_install.serve("--demo")
    empty_install.ok("simulate", "--from", ANA, "--body", "Do you deliver?")
    assert first.stop() == 0
    second = empty_install.serve("--demo")
    assert requests.get(f"{second.url}/readyz", timeout=5).status_code == 200
    assert [b["name"] for b in empty_install.ok("business", "list", "--json").json] == ["luna-bakery"]
    assert empty_install.ok("thread", "list", "--json").json[0]["messages"] == 2


def test_a_demo_never_moves_into_an_install_with_customers(empty_install: Install) -> None:
    empty_install.ok("init")
    empty_install.ok("business", "add", "real", "--number", SHOP, "--backend", "knowledge")
    done = empty_install.run("serve", "--demo", "--port", "0")
    assert done.code == 6
    assert "has 1 businesses already: no demo was added" in done.err


def test_serving_without_an_init_says_what_to_type(empty_install: Install) -> None:
    done = empty_install.run("serve")
    assert done.code == 6
    assert "no tables yet" in done.err
    assert "chatbotctl init" in done.err


def test_what_init_makes_is_for_its_owners_eyes_only(empty_install: Install) -> None:
    empty_install.ok("init")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in empty_install.home.iterdir()}
    assert modes["config.toml"] == modes["secret.key"] == modes["chatbotctl.db"] == 0o600
