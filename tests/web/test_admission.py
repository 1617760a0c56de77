"""Which requests may read or change anything, by their headers alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from streamer.web.admission import Admission, cross_site_refusal, host_name, is_token

TOKEN = "correct-horse-battery"
USUAL = {"Content-Type": "application/json", "X-Bearwire": "page"}


def admission(
    host: str = "127.0.0.1", *, names: tuple[str, ...] = (), allowed: bool = True, has_token: bool = False
) -> Admission:
    return Admission(host=host, names=names, allowed=allowed, has_token=has_token)


def status(rules: Admission, host: str = "127.0.0.1:8080", leave_out: str | None = None, **headers: str) -> int | None:
    given_headers = {name: value for name, value in USUAL.items() if name != leave_out}
    given_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = rules.refusal(host, CIMultiDict(given_headers), TOKEN if rules.has_token else None)
    return None if refusal is None else refusal.status


def test_on_loopback_a_request_of_the_page_itself_is_let_in() -> None:
    assert status(admission()) is None
    for name in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"):
        assert status(admission(), name, Origin=f"http://{name}", Sec_Fetch_Site="same-origin") is None


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "http://[", "", "127.0.0.1:8080"],
)
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    assert status(admission(), Origin=origin) == 403
    assert status(admission(has_token=True), Origin=origin, X_Bearwire_Token=TOKEN) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_what_a_browser_calls_another_site_is_refused_without_an_origin_too(site: str) -> None:
    assert status(admission(), Sec_Fetch_Site=site) == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_is_refused(kind: str) -> None:
    assert status(admission(), Content_Type=kind) == 415
    assert status(admission(), leave_out="Content-Type") == 415
    assert status(admission(), leave_out="X-Bearwire") == 403
    assert status(admission(), Content_Type="application/json; charset=utf-8") is None


def test_a_foreign_name_that_was_pointed_here_is_refused() -> None:
    assert status(admission(), "evil.example:8080", Origin="http://evil.example:8080") == 421
    everywhere = admission("0.0.0.0", names=("bw.example.com",), has_token=True)
    assert status(everywhere, "evil.example", X_Bearwire_Token=TOKEN) == 421
    assert status(everywhere, "bw.example.com.evil.example", X_Bearwire_Token=TOKEN) == 421
    assert status(everywhere, "BW.example.com:443", X_Bearwire_Token=TOKEN) is None
    assert status(everywhere, "localhost:8080", X_Bearwire_Token=TOKEN) is None


@pytest.mark.parametrize("shown", [None, "", "correct-horse-batterz", "correct-horse", "\udcff" * 20, "ü" * 20])
def test_a_wrong_token_is_refused(shown: str | None) -> None:
    headers = {} if shown is None else {"X_Bearwire_Token": shown}
    assert status(admission(has_token=True), **headers) == 403
    assert status(admission(has_token=True), X_Bearwire_Token=TOKEN) is None


def test_beyond_loopback_nothing_is_let_in_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "10.0.0.7", "bw.example.com"):
        rules = admission(host, names=("bw.example.com",))
        for name in ("127.0.0.1:8080", "bw.example.com", host):
            assert status(rules, name) == 403
            assert rules.access(name) == "off"


@pytest.mark.parametrize("header", ["X_Forwarded_For", "Forwarded", "Via", "X_Real_IP", "X_Forwarded_Host"])
def test_without_a_token_nothing_comes_through_a_proxy(header: str) -> None:
    assert status(admission(), **{header: "10.1.1.1"}) == 403
    assert status(admission(has_token=True), **{header: "10.1.1.1", "X_Bearwire_Token": TOKEN}) is None


def test_a_further_name_of_a_loopback_listener_needs_the_token() -> None:
    name = "bw.example.com"
    open_to_all = admission(names=(name,))
    assert open_to_all.may_read(name)
    assert status(open_to_all, name) == 403
    assert open_to_all.access(name) == "off" and open_to_all.access("localhost") == "open"
    guarded = admission(names=(name,), has_token=True)
    assert status(guarded, name, Origin=f"https://{name}", X_Bearwire_Token=TOKEN) is None
    assert guarded.access(name) == "token" and guarded.access("evil.example") == "off"


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("10.0.0.7:8080", True),
        ("[fd00::7]:8080", True),
        ("[fe80::1%eth0]", True),
        ("worker:8080", True),
        ("Bear_wire-1.:8080", True),
        ("localhost:8080", True),
        ("bw.example.com", True),
        ("host.corp.example:8080", True),
        ("evil.example:8080", False),
        ("bw.example.com.evil.example", False),
        ("host.evil.example", False),
        ("bearwire.team.svc.cluster.local", False),
        ("bearwire.team.svc", False),
        ("bw.internal", False),
        ("bw.local", False),
        ("10.0.0.7.evil.example", False),
        ("0x7f.1", False),
        ("evil%2eexample", False),
        ("evil\u3002example", False),
        ("[evil.example]:80", False),
        ("evil.example:1:2", False),
        ("", False),
    ],
)
def test_beyond_loopback_the_page_is_read_under_names_that_no_stranger_can_have_made(name: str, may: bool) -> None:
    rules = admission("0.0.0.0", names=("bw.example.com",))
    machine = {"host", "host.corp.example"}
    assert rules.may_read(name, machine) is may
    refusal = rules.reading_refusal(name, machine)
    assert refusal is None if may else refusal is not None and refusal.status == 403 and "web.names" in refusal.why


def test_a_listener_is_read_under_its_host_and_what_is_listed() -> None:
    assert admission("bw.example.com").may_read("bw.example.com:8080")
    for name in ("bearwire.team.svc.cluster.local", "bw.internal", "bw.local"):
        assert admission("0.0.0.0", names=(name,)).may_read(name)


@pytest.mark.parametrize("name", ["10.0.0.7:8080", "worker:8080", "host", "host.corp.example", "", "evil.example"])
def test_a_loopback_listener_is_read_under_its_own_names_alone(name: str) -> None:
    refusal = admission().reading_refusal(name, {"host", "host.corp.example"})
    assert refusal is not None and refusal.status == 421


def test_only_what_a_browser_calls_another_site_may_not_read() -> None:
    refusal = cross_site_refusal(CIMultiDict({"sec-fetch-site": "cross-site"}))
    assert refusal is not None and refusal.status == 403
    for site in ("same-origin", "same-site", "none"):
        assert cross_site_refusal(CIMultiDict({"Sec-Fetch-Site": site})) is None
    assert cross_site_refusal(CIMultiDict()) is None


def test_switched_off_is_off() -> None:
    for rules in (admission(allowed=False), admission(allowed=False, has_token=True)):
        assert status(rules, X_Bearwire_Token=TOKEN) == 403
        assert rules.access("localhost") == "off"


@given(
    st.dictionaries(
        st.sampled_from(["Content-Type", "X-Bearwire", "Origin", "Sec-Fetch-Site", "Via"]),
        st.sampled_from(["application/json", "1", "same-origin", "http://bw.example.com", "https://bw.example.com"]),
    ),
    st.text(),
)
def test_no_headers_make_up_for_a_wrong_token(headers: dict[str, str], shown: str) -> None:
    rules = admission("0.0.0.0", names=("bw.example.com",), has_token=True)
    given_headers = CIMultiDict(headers, **{"X-Bearwire-Token": shown})
    assert (rules.refusal("bw.example.com", given_headers, TOKEN) is not None) or shown == TOKEN


def test_tokens_and_names_as_the_configuration_takes_them() -> None:
    assert is_token("0123456789abcdef")
    assert not any(map(is_token, ("", "0123456789abcde", "0123456789 abcdef", "ü" * 16, "0123456789abcdef\n")))
    assert [host_name(name) for name in ("[::1]:80", "::1", "A.b.:8080", "a")] == ["::1", "::1", "a.b", "a"]
