"""SQL injection: every way a parameter can travel."""

from __future__ import annotations

import string

import libinjection
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleboxes.ids import sqli
from middleboxes.ids.http import Request

FORM = b"application/x-www-form-urlencoded"
ATTACK = "1' OR '1'='1"
ENCODED = b"1%27+OR+%271%27%3D%271"


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (Request(b"GET", b"/?a=1&q=" + ENCODED), ATTACK),
        (Request(b"GET", b"/?" + ENCODED + b"=1"), ATTACK),
        (Request(b"POST", b"/", FORM, b"user=bob&q=" + ENCODED), ATTACK),
        (Request(b"POST", b"/", FORM + b"; charset=utf-8", b"q=" + ENCODED), ATTACK),
        (Request(b"POST", b"/", b"", b"q=" + ENCODED), ATTACK),
        (Request(b"POST", b"/", b"application/json", b'{"a": [{"b": "1\' OR \'1\'=\'1"}]}'), ATTACK),
        (Request(b"POST", b"/", b"application/vnd.x+json", b"{\"1' OR '1'='1\": 0}"), ATTACK),
        (Request(b"POST", b"/", b"application/json", b"1' OR '1'='1"), ATTACK),
        (Request(b"POST", b"/", b"text/plain", b"1' OR '1'='1"), ATTACK),
        (Request(b"POST", b"/?q=" + ENCODED, FORM, b"user=bob"), ATTACK),
        (Request(b"POST", b"/", b"multipart/form-data; boundary=x", b"1' OR '1'='1"), None),
        (Request(b"GET", b"/?name=O%27Reilly&id=12&x=&flag"), None),
        (Request(b"GET", b"/" + ENCODED), None),
    ],
)
def test_where_an_injection_may_hide(request_, found):
    assert sqli.injection(request_, 100) == found


def test_what_comes_after_too_many_parameters_is_judged_as_one_value():
    query = b"&".join(b"a%d=b" % n for n in range(50)) + b"&" + ENCODED
    assert sqli.injection(Request(b"GET", b"/?" + query), 10) is not None
    assert len(list(sqli.parameters(Request(b"GET", b"/?" + query), 10))) == 21


@given(st.text(string.ascii_letters + string.digits + "_", max_size=12))
def test_the_short_cut_for_single_words_agrees_with_libinjection(text):
    assert sqli.is_injection(text) == libinjection.is_sql_injection(text)["is_sqli"]


@given(st.binary(max_size=80), st.sampled_from([FORM, b"", b"application/json", b"text/plain"]))
def test_any_body_is_judged_without_an_error(body, content_type):
    sqli.injection(Request(b"POST", b"/?" + body, content_type, body), 5)


def test_a_json_document_with_too_many_strings_is_judged_as_one_value():
    body = b"[" + b'"x",' * 20 + b"\"1' OR '1'='1\"]"
    request = Request(b"POST", b"/", b"application/json", body)
    assert list(sqli.parameters(request, 5)) == ["x"] * 5 + [body.decode()]
