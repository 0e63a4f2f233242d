"""WhatsApp addresses: what an operator types, what Twilio sends, which spellings reach the same person, and masking.

An address is opaque text, `whatsapp:+15551234567` or, for a customer who hides the number, `whatsapp:US.134912...`.
It is stored as it came and never rewritten: variants are looked up (`candidates`), not normalised away. Used by every
layer above; must import nothing but errors.
"""

from __future__ import annotations

import re
import unicodedata

from chatbotctl.core.errors import RefusedError

PREFIX = "whatsapp:"
#: Characters: a prefix, and the longest id that Twilio documents (country, `.ENT.`, 128 letters and digits), with room.
LONGEST = 160

_USERNAME = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")
_TYPED_NUMBER = re.compile(r"\+[\d\s().\-/]+")
_HINT = "Write the number with + and its country code, like +15551234567 or whatsapp:+15551234567."

#: Pairs of patterns of one person's number, and what turns each into the other. `\g<1>` is what they share.
_VARIANTS = (
    # Brazil's ninth digit: mobiles begin with 6 to 9, and WhatsApp still knows many of them by eight digits.
    (re.compile(r"(\+55[1-9]{2})9([6-9]\d{7})"), r"\g<1>\g<2>"),
    (re.compile(r"(\+55[1-9]{2})([6-9]\d{7})"), r"\g<1>9\g<2>"),
    # Argentina's 9 and Mexico's 1 in front of mobile numbers, seen from abroad; Mexico dropped its 1 in 2019.
    (re.compile(r"(\+54)9(\d{10})"), r"\g<1>\g<2>"),
    (re.compile(r"(\+54)([1-8]\d{9})"), r"\g<1>9\g<2>"),
    (re.compile(r"(\+52)1(\d{10})"), r"\g<1>\g<2>"),
    (re.compile(r"(\+52)([2-9]\d{9})"), r"\g<1>1\g<2>"),
)


def normalise(text: str) -> str:
    """The address that an operator means by `text`, as Twilio spells it.

    Takes `+1 (555) 123-4567`, `whatsapp:+15551234567` and `whatsapp:US.134912...`. A number has to have a possible
    length for its country, no more: test and demo numbers such as +15550001111 are fine. Raises RefusedError.
    """
    # Numbers copied from a chat come wrapped in invisible direction marks.
    typed = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf").strip()
    has_prefix = typed[: len(PREFIX)].casefold() == PREFIX
    rest = typed[len(PREFIX) :].strip() if has_prefix else typed
    if has_prefix and _USERNAME.fullmatch(rest):
        return PREFIX + rest
    if not _TYPED_NUMBER.fullmatch(rest):
        raise RefusedError(f"`{_shown(typed)}` is not a WhatsApp number.", hint=_HINT)
    digits = "".join(str(unicodedata.decimal(char)) for char in rest.replace("(0)", "") if char.isdecimal())
    number = f"+{digits}"
    if not any(_is_possible(candidate) for candidate in candidates(number)):
        raise RefusedError(f"`{_shown(typed)}` is not a possible phone number.", hint=_HINT)
    return PREFIX + number


def readable_address(text: str) -> str | None:
    """`text` itself, unchanged, when it can be an address (a webhook's From or To); None when it cannot.

    Any text of 1 to 160 characters without control, format or surrogate characters, blank ones excepted.
    """
    if not text.strip() or len(text) > LONGEST:
        return None
    if text.isascii() and text.isprintable():
        return text
    if any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in text):
        return None
    return text


def candidates(address: str) -> tuple[str, ...]:
    """`address` first, then the other spellings that reach the same person; an opaque id has only itself."""
    number = bare(address)
    for pattern, other in _VARIANTS:
        match = pattern.fullmatch(number)
        if match:
            return address, address.removesuffix(number) + match.expand(other)
    return (address,)


def bare(address: str) -> str:
    """`address` as people know it, without the `whatsapp:` in front."""
    return address.removeprefix(PREFIX)


def named(profile_name: str | None, address: str) -> str:
    """Who a customer is, for people: `Ana (+15557654321)`, or the number alone where no name is known."""
    return f"{profile_name} ({bare(address)})" if profile_name else bare(address)


def user_id(address: str) -> str | None:
    """The customer's id in an address without a number (`US.134912...`, `US.ENT.134912...`), else None."""
    shown = bare(address)
    return shown if _USERNAME.fullmatch(shown) else None


def mask(address: str) -> str:
    """`address` for logs and lists, without what identifies a person: `+12•••••6789`, `US.•••••8a2f`.

    Keeps the first two and the last four digits of a number, the country and the last four characters of an id, and
    less of anything too short to hide the rest.
    """
    shown = bare(address)
    if _USERNAME.fullmatch(shown):
        country, _, rest = shown.rpartition(".")
        return f"{country}.•••••{_tail(rest)}"
    if re.fullmatch(r"\+\d+", shown):
        return f"{shown[:3]}•••••{_tail(shown[3:])}" if len(shown) >= 9 else f"•••••{shown[-2:]}"
    return f"•••••{_tail(shown)}"


def _tail(text: str) -> str:
    """The last four characters, or fewer, so that at least as many stay hidden."""
    return text[len(text) - min(4, len(text) // 2) :]


def _is_possible(number: str) -> bool:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return False
    # Not is_possible_number(): that one also takes numbers that can be dialled only inside their town.
    return bool(phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.IS_POSSIBLE)


def _shown(typed: str) -> str:
    """What the operator typed, short and on one line, for an error."""
    line = "".join(char if char.isprintable() else "�" for char in typed)
    return line if len(line) <= 40 else f"{line[:37]}..."
