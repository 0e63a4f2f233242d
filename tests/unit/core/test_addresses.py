"""What operators may type as a number, what a webhook may send, and which spellings reach the same person."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbotctl.core.addresses import bare, candidates, mask, named, normalise, readable_address, user_id
from chatbotctl.core.errors import RefusedError

any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=200)


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("+15550001111", "whatsapp:+15550001111"),
        ("+1 (555) 000-1111", "whatsapp:+15550001111"),
        ("whatsapp:+15550001111", "whatsapp:+15550001111"),
        ("  WhatsApp: +1 555.000.1111 ", "whatsapp:+15550001111"),
        ("+44 (0)20 7946 0000", "whatsapp:+442079460000"),
        ("\u202a+49\xa0170\xa01234567\u202c", "whatsapp:+491701234567"),
        ("＋１５５５０００１１１１", "whatsapp:+15550001111"),
        ("+39 06 12345678", "whatsapp:+390612345678"),
        ("+52 1 55 1234 5678", "whatsapp:+5215512345678"),
        ("whatsapp:US.13491208655302741918", "whatsapp:US.13491208655302741918"),
        ("whatsapp:US.ENT.a1B2", "whatsapp:US.ENT.a1B2"),
    ],
    ids=ascii,
)
def test_an_operator_may_type_a_number_as_people_write_it(typed: str, address: str) -> None:
    assert normalise(typed) == address
    assert normalise(address) == address


@pytest.mark.parametrize(
    "typed",
    ["", "15550001111", "0049 170 1234567", "+1 555", "+1 555 0001", "+999 123 45678", "+1-800-FLOWERS",
     "+1 555 000 1111 x5", "US.1349", "whatsapp:", "whatsapp:us.1349", "whatsapp:US.13 49",
     "+15550001111\x00", "\ud800", "+" + "1" * 5000],
    ids=lambda typed: ascii(typed)[:30],
)  # fmt: skip
def test_what_is_no_number_is_refused_with_an_example_of_one(typed: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        normalise(typed)
    assert "+15551234567" in (refusal.value.hint or "")
    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) < 100


@given(any_text)
def test_any_text_is_either_normalised_for_good_or_refused(typed: str) -> None:
    try:
        address = normalise(typed)
    except RefusedError:
        return
    assert normalise(address) == address
    assert readable_address(address) == address


@pytest.mark.parametrize(
    "text", ["whatsapp:+15550001111", "whatsapp:US.1349", "+15550001111", "whatsapp: 15550001111", "x" * 160, "名前"]
)
def test_a_webhooks_address_is_taken_as_it_is(text: str) -> None:
    assert readable_address(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "  ", "x" * 161, "whatsapp:+1\x00", "a\nb", "\x1b[31m", "a\u202eb", "\ud800", "\u2028", "\x85"],
    ids=ascii,
)
def test_an_address_that_cannot_be_read_is_none(text: str) -> None:
    assert readable_address(text) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("whatsapp:+5511987654321", "whatsapp:+551187654321"),
        ("whatsapp:+5491123456789", "whatsapp:+541123456789"),
        ("whatsapp:+5215512345678", "whatsapp:+525512345678"),
        ("+5511987654321", "+551187654321"),
    ],
)
def test_both_spellings_of_one_persons_number_lead_to_each_other(one: str, other: str) -> None:
    assert candidates(one) == (one, other)
    assert candidates(other) == (other, one)


@pytest.mark.parametrize(
    "address",
    [
        "whatsapp:+15550001111",
        "whatsapp:+551134567890",
        "whatsapp:+5511934567890",
        "whatsapp:US.5511987654321",
        "",
        "+55",
    ],
    ids=["plain", "landline in Brazil", "mobile without an old form", "opaque id", "empty", "country alone"],
)
def test_other_addresses_have_only_themselves(address: str) -> None:
    assert candidates(address) == (address,)


@given(any_text)
def test_candidates_begin_with_the_address_and_are_symmetric(address: str) -> None:
    found = candidates(address)
    assert found[0] == address
    assert all(address in candidates(other) for other in found)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("whatsapp:US.13491208", "US.13491208"),
        ("whatsapp:US.ENT.13491208", "US.ENT.13491208"),
        ("US.13491208", "US.13491208"),
        ("whatsapp:+15550001111", None),
        ("whatsapp:USA.1", None),
        ("", None),
    ],
)
def test_the_id_of_a_customer_who_hides_the_number(address: str, expected: str | None) -> None:
    assert user_id(address) == expected


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("whatsapp:+12345556789", "+12•••••6789"),
        ("+12345556789", "+12•••••6789"),
        ("+1234567", "•••••67"),
        ("whatsapp:US.13491208655302741918", "US.•••••1918"),
        ("whatsapp:US.ENT.13491208", "US.ENT.•••••1208"),
        ("whatsapp:US.12", "US.•••••2"),
        ("hello", "•••••lo"),
        ("", "•••••"),
    ],
)
def test_a_masked_address_keeps_its_ends_only(address: str, masked: str) -> None:
    assert mask(address) == masked


@given(st.from_regex(r"\+[0-9]{10,15}", fullmatch=True))
def test_a_masked_number_never_shows_the_middle(number: str) -> None:
    assert mask(f"whatsapp:{number}") == f"{number[:3]}•••••{number[-4:]}"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("whatsapp:+15550001111", "+15550001111"),
        ("whatsapp:US.13491208655302741918", "US.13491208655302741918"),
        ("+15550001111", "+15550001111"),
    ],
)
def test_people_are_shown_an_address_without_its_prefix_and_with_a_name_where_one_is_known(
    address: str, shown: str
) -> None:
    assert bare(address) == named(None, address) == named("", address) == shown
    assert named("Ana", address) == f"Ana ({shown})"
