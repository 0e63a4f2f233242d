"""A loopback Google Translate, basic edition (v2), as the v2 client speaks it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

from tests.fakes.loopback import LoopbackServer, Request, Response

#: Targets with a region that Google tells apart; any other region is refused, as Google refuses it.
REGIONS = {"pt-BR", "pt-PT", "fr-CA", "fr-FR", "zh-CN", "zh-TW", "es-ES", "es-419"}
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_MAX_CODE_POINTS = 30_000
_MAX_TEXTS = 128


def refusal(status: int, message: str, reason: str = "invalid", headers: dict[str, str] | None = None) -> Response:
    """Google's answer for an error, to plan as a fault: `fake.plan(response=refusal(403, "Quota exceeded"))`."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return Response(status, {"error": {"code": status, "message": message, "errors": errors}}, headers or {})


class FakeGoogleTranslate(LoopbackServer):
    """Translates by `dictionary` {(text, target): translated}; other texts become `[target] text`.

    `languages` names the language a text is in. `token`, when set, is the bearer token that callers must send.
    Like Google it takes text to be HTML unless told `format: text`, and then escapes it.
    """

    def __init__(self, dictionary: dict[tuple[str, str], str] | None = None, token: str | None = None) -> None:
        super().__init__()
        self.dictionary = dictionary or {}
        self.languages: Callable[[str], str] = lambda text: "en"
        self.token = token

    @property
    def translated(self) -> list[tuple[str, str]]:
        """Every (text, target) that was asked for, in order, refused ones included."""
        return [(text, r.json["target"]) for r in self.seen("/language/translate/v2", "POST") for text in r.json["q"]]

    def handle(self, request: Request) -> Response:
        if request.path != "/language/translate/v2" or request.method != "POST":
            return refusal(404, "Not Found", "notFound")
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return refusal(401, "Request had invalid authentication credentials.", "authError")
        if request.headers.get("content-type") != "application/json":
            return refusal(400, "Invalid JSON payload received.", "badRequest")
        try:
            asked: dict[str, Any] = json.loads(request.body)
        except ValueError:
            return refusal(400, "Invalid JSON payload received.", "badRequest")
        target, texts, format_ = asked.get("target"), asked.get("q"), asked.get("format") or "html"
        if not target:
            return refusal(400, "Required parameter: target", "required")
        if not texts:
            return refusal(400, "Required Text", "required")
        if format_ not in ("html", "text") or not (_LANGUAGE.fullmatch(target) or target in REGIONS):
            return refusal(400, "Invalid Value")
        if len(texts) > _MAX_TEXTS:
            return refusal(400, "Too many text segments")
        if sum(map(len, texts)) > _MAX_CODE_POINTS:
            return refusal(400, "Text too long", "uri too long")
        translations = [
            {
                "translatedText": self._translated(text, target, format_),
                "detectedSourceLanguage": self.languages(text),
            }
            for text in texts
        ]
        return Response(200, {"data": {"translations": translations}})

    def _translated(self, text: str, target: str, format_: str) -> str:
        translated = self.dictionary.get((text, target), f"[{target}] {text}")
        return translated if format_ == "text" else html.escape(translated)
