"""Every injection sent is one that libinjection detects, and nothing else sent is."""

from __future__ import annotations

import libinjection
import pytest

from middleboxes.ids import http, sqli
from traffic.payloads import INJECTIONS, NEAR_MISSES, plans


@pytest.mark.parametrize("text", INJECTIONS)
def test_each_injection_is_detected(text):
    assert libinjection.is_sql_injection(text)["is_sqli"]


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_no_near_miss_is_detected(text):
    assert not libinjection.is_sql_injection(text)["is_sqli"]


def test_every_planned_request_is_what_the_plan_says_it_is():
    limits = http.Limits()
    made = plans(seed=3, flows=6, attackers=2, attack_length=31, attack_within=20, strays=0.1)
    assert sorted(plan.attack_at >= 0 for plan in made) == [False] * 4 + [True] * 2
    for plan in made:
        planned = [plan.request(number, "10.0.2.2") for number in range(80)]
        found = http.feed(http.HttpState(), b"".join(each.wire for each in planned), limits)
        assert [sqli.injection(request, 1000) is not None for request in found] == [each.injection for each in planned]
        assert len({each.id for each in planned}) == 80
        if plan.attack_at >= 0:
            attack = planned[plan.attack_at : plan.attack_at + 31]
            assert all(each.injection for each in attack)


def test_plans_depend_on_the_seed_alone():
    one, same, other = (
        plans(seed=seed, flows=4, attackers=2, attack_length=3, attack_within=9, strays=0.5) for seed in (1, 1, 2)
    )
    assert one == same != other
    assert one[0].request(5, "h") == same[0].request(5, "h")
    assert one[0].request(5, "h").wire != other[0].request(5, "h").wire
