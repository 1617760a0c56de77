"""What each kind of receiver is sent: pure functions of the notification, with hostile text in it."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.notifications import Notification, decode_notification, notification_id
from alerts.records import AlertText
from alerts.sinks.alertmanager import Firing, Posted, alertmanager_alert, posted_alert
from alerts.sinks.delivery import Refused, TryLater
from alerts.sinks.email import email_message
from alerts.sinks.feishu import feishu_message, feishu_signature, judge_feishu
from alerts.sinks.http import Answer
from alerts.sinks.plain import one_line, web_link
from alerts.sinks.signature import SIGNATURE, TIMESTAMP, is_signed, signature_headers
from alerts.sinks.slack import slack_escape, slack_message
from alerts.sinks.template import DEFAULT, Template, TemplateError
from alerts.sinks.webhook import webhook_headers
from tests.sinks.notifications import alert, notification

HOSTILE = (
    '<!channel> <https://evil.example|click> & @here [x](https://evil.example) <at user_id="all">all</at>\x1b[31m\u202e'
)
DEFAULT_TEMPLATE = Template(DEFAULT)


def hostile() -> object:
    text = AlertText(id="1", text=HOSTILE, published_at_ms=0, negative=1.0, source=HOSTILE, url="javascript:alert(1)")
    return notification(alert(texts=(text,), line=HOSTILE), title=HOSTILE + "\nSubject: forged", text=HOSTILE)


def test_a_webhook_carries_the_notification_itself_and_its_id() -> None:
    sent = notification()
    body = sent.encode()
    headers = webhook_headers(sent, body, "s3cret", 1_700_000_000)
    assert decode_notification(body).id == headers["Idempotency-Key"] == sent.id
    wanted = hmac.new(b"s3cret", b"1700000000." + body, hashlib.sha256).hexdigest()
    assert headers[SIGNATURE] == f"v1={wanted}"
    assert SIGNATURE not in webhook_headers(sent, body, None, 0)


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.binary(max_size=200), st.integers(0, 2**31))
def test_a_signature_holds_for_its_body_its_time_and_its_secret_only(secret: str, body: bytes, now: int) -> None:
    headers = signature_headers(secret, body, now)
    assert is_signed(secret, headers, body, now_s=now)
    assert not is_signed(secret, headers, body + b"x", now_s=now)
    assert not is_signed(secret + "x", headers, body, now_s=now)
    assert not is_signed(secret, headers, body, now_s=now + 301)
    assert not is_signed(secret, {**headers, TIMESTAMP: str(now + 1)}, body, now_s=now)
    assert not is_signed(secret, {}, body, now_s=now)


def test_slack_markup_in_texts_means_nothing() -> None:
    sent = notification(title=HOSTILE, text=HOSTILE)
    shown = json.dumps(slack_message(sent, DEFAULT_TEMPLATE), ensure_ascii=False)
    for dangerous in ("<!", "<at", "<https://evil", "](https", "@here", "\x1b", "\u202e"):
        assert dangerous not in shown
    assert "<https://news.example/2026/tallybridge|Harbour Newswire>" in shown


def test_mattermost_sees_no_picture_and_no_mention_in_texts() -> None:
    for text, dangerous in (
        ("![x][y] [y]: https://evil.example", "]["),
        ("[y]: https://evil.example", "]:"),
        ("@alice", "@a"),
    ):
        assert dangerous not in slack_escape(text)


def test_a_link_that_is_no_web_link_is_left_out() -> None:
    message = slack_message(hostile(), DEFAULT_TEMPLATE)  # type: ignore[arg-type]
    assert "javascript" not in json.dumps(message)
    for url in ("javascript:x", "https://user:pw@host/", "http://", "https://x\n.example", "data:text/html,x", ""):
        assert web_link(url) is None
    assert web_link("https://x.example/a|b>c") == "https://x.example/a%7Cb%3Ec"


def test_feishu_sees_no_tag_in_texts_and_a_link_as_a_link() -> None:
    message = feishu_message(hostile(), DEFAULT_TEMPLATE)  # type: ignore[arg-type]
    shown = json.dumps(message, ensure_ascii=False)
    assert "<at" not in shown and "</at" not in shown
    content = feishu_message(notification(), DEFAULT_TEMPLATE)["content"]["post"]["zh_cn"]["content"]
    assert [{"tag": "a", "text": "Harbour Newswire", "href": "https://news.example/2026/tallybridge"}] in content


def test_feishu_s_signature_is_the_one_of_its_manual() -> None:
    # What https://open.feishu.cn describes: the key is "time\nsecret", the message is empty.
    signed = feishu_signature("demo", 1_599_360_473)
    key = b"1599360473\ndemo"
    import base64

    assert signed["sign"] == base64.b64encode(hmac.digest(key, b"", "sha256")).decode()
    assert signed["timestamp"] == "1599360473"


def test_feishu_says_no_with_status_200() -> None:
    judge_feishu(Answer(200, b'{"code":0,"msg":"success"}'))
    judge_feishu(Answer(200, b'{"StatusCode":0,"StatusMessage":"success"}'))
    with pytest.raises(Refused, match="19021"):
        judge_feishu(Answer(200, b'{"code":19021,"msg":"sign match fail"}'))
    with pytest.raises(TryLater):
        judge_feishu(Answer(200, b'{"code":11232,"msg":"frequency limited"}'))
    for nonsense in (b"", b"<html>", b"[1]", b"null"):
        with pytest.raises((TryLater, Refused)):
            judge_feishu(Answer(200, nonsense))


def test_a_template_knows_its_fields_and_reads_nothing_else() -> None:
    with pytest.raises(TemplateError, match=r"\{titel\}.*\{title\}"):
        Template("{titel}")
    with pytest.raises(TemplateError):
        Template("{title.__class__}")
    sent = notification(alert("a"), alert("b"), title="{text} <b>")
    text = slack_message(sent, Template("*{title}* {count} {status}"))["attachments"][0]["text"]
    assert text.splitlines()[0] == "*{text} &lt;b&gt;* 2 firing"


def test_many_members_are_listed_and_counted() -> None:
    members = [alert(f"company:C{number}") for number in range(30)]
    text = slack_message(notification(*members), DEFAULT_TEMPLATE)["attachments"][0]["text"]
    assert text.count("•") == 11
    assert "… 20" in text


def mail(sent: object) -> object:
    made = email_message(
        sent,  # type: ignore[arg-type]
        sender="Bearwire <bearwire@bank.example>",
        recipients=("desk@bank.example", "risk@bank.example"),
        date=datetime(2026, 3, 4, tzinfo=UTC),
        domain="bank.example",
    )
    return message_from_bytes(made.as_bytes(), policy=default)


def test_an_e_mail_is_plain_and_html_with_the_id_as_its_message_id() -> None:
    sent = notification(sequence=3)
    message = mail(sent)
    assert message["Message-ID"] == f"<{sent.id}@bank.example>"  # type: ignore[index]
    assert message["References"] == f"<{notification_id('g1', 1)}@bank.example>"  # type: ignore[index]
    assert message["To"] == "desk@bank.example, risk@bank.example"  # type: ignore[index]
    kinds = [part.get_content_type() for part in message.walk()]  # type: ignore[attr-defined]
    assert kinds == ["multipart/alternative", "text/plain", "text/html"]


def test_an_e_mail_cannot_be_given_headers_or_markup_by_a_text() -> None:
    message = mail(hostile())
    assert "forged" in message["Subject"]  # type: ignore[index]
    assert message.get_all("Subject") == [message["Subject"]]  # type: ignore[attr-defined, index]
    html = message.get_body(("html",)).get_content()  # type: ignore[attr-defined]
    assert "<at" not in html and "<!channel" not in html and "javascript" not in html


@given(st.text(max_size=400), st.integers(1, 100))
def test_one_line_is_one_printable_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()


@given(st.text(max_size=300), st.text(max_size=300))
def test_every_rendering_survives_any_text(title: str, text: str) -> None:
    words = AlertText(id="1", text=text, published_at_ms=0, negative=1.0, source=title, url=text)
    sent = notification(alert(texts=(words,), line=title, paragraph=text), title=title, text=text)
    json.dumps(slack_message(sent, DEFAULT_TEMPLATE)).encode()
    json.dumps(feishu_message(sent, DEFAULT_TEMPLATE)).encode()
    mail(sent)
    json.dumps(posted_alert(alertmanager_alert(sent.alerts[0], 0), 0, 1)).encode()


ALERTMANAGER = {
    "type": "object",
    "required": ["labels", "startsAt", "endsAt", "annotations"],
    "properties": {
        "labels": {"propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}, "additionalProperties": {"minLength": 1}}
    },
}


def test_alertmanager_gets_labels_that_it_takes_and_an_end_that_fits_the_state() -> None:
    firing = alertmanager_alert(alert(labels={"team/desk": "x", "empty": "", "0": "y"}), 5)
    sent = posted_alert(firing, now_ms=1_700_000_000_000, hold_ms=240_000)
    jsonschema.validate(sent, ALERTMANAGER)
    assert sent["endsAt"] == "2023-11-14T22:17:20.000+00:00"
    assert {"team_desk", "_0"} <= sent["labels"].keys()
    resolved = alertmanager_alert(alert(state="resolved", resolved_at_ms=1_700_000_000_000, fired_at_ms=5), 9)
    assert posted_alert(resolved, 0, 0)["endsAt"] == "2023-11-14T22:13:20.000+00:00"


def take(firing: Firing, sent: Notification) -> list[Posted]:
    changed = firing.changes(sent)
    firing.take(sent, changed)
    return changed


def test_alertmanager_s_alert_ends_under_its_old_labels_when_its_severity_changes() -> None:
    firing = Firing(keep_ms=10**12)
    one = alert()
    take(firing, notification(one))
    worse = msgspec.structs.replace(one, severity="critical", sequence=2, change="severity_up")
    changed = take(firing, notification(worse, sequence=2))
    assert [(each.labels["severity"], each.ends_ms) for each in changed] == [("high", one.at_ms), ("critical", None)]
    assert take(firing, notification(one)) == []
    (left,) = firing.all(one.at_ms)
    assert left.labels["severity"] == "critical"
    over = msgspec.structs.replace(worse, state="resolved", sequence=3, resolved_at_ms=worse.at_ms)
    take(firing, notification(over, sequence=3))
    assert firing.all(one.at_ms) == []
    take(firing, notification(worse, sequence=2))
    assert firing.all(one.at_ms) == [], "an older word does not bring it back"


def test_an_alert_of_which_nothing_is_heard_is_repeated_no_more() -> None:
    firing = Firing(keep_ms=1000)
    take(firing, notification(alert(at_ms=5_000)))
    assert len(firing.all(6_000)) == 1
    assert firing.all(6_001) == []


def test_a_member_that_its_group_names_no_more_is_repeated_no_more() -> None:
    firing = Firing(keep_ms=10**12)
    one, two = alert("company:A"), alert("company:B")
    take(firing, notification(one, two))
    take(firing, notification(alert("company:C"), group="other"))
    take(firing, notification(two, sequence=2))
    assert {each.labels["series"] for each in firing.all(one.at_ms)} == {"company:B", "company:C"}
