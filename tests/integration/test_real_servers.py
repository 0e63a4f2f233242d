"""The servers and the isolation that other tests rely on."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg2
import pytest
import redis

from tests.services import fresh_database


def test_postgres_is_real_and_each_database_is_empty_and_its_own(postgres_url: str, postgres_server: str) -> None:
    with fresh_database(postgres_server) as other:
        for url in (postgres_url, other):
            connection = psycopg2.connect(url)
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE only_here (id int)")
            connection.commit()
            connection.close()
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(other)


@pytest.mark.parametrize("turn", [1, 2])
def test_redis_is_real_and_empty_for_each_test(redis_url: str, turn: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", turn)


def test_nothing_of_the_machines_settings_reaches_a_test(tmp_path: Path) -> None:
    assert os.environ["CHATBOTCTL_HOME"] == str(tmp_path)
    assert Path.cwd() == tmp_path
    assert not [name for name in os.environ if name.startswith(("OPENAI_", "TWILIO_", "SLACK_", "REDIS_", "GOOGLE_"))]
    assert "DATABASE_URL" not in os.environ
