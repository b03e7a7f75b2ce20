"""The description of the API, and that the service keeps to it whatever is asked.

The description is a snapshot: what changes in it changes for whoever wrote a script. Renew it with
`python -m tests.web.test_openapi`, and look at the difference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings
from tests.story import CAMERA

SNAPSHOT = Path(__file__).with_name("openapi.json")
KNOWN = {"camera": CAMERA, "mask_id": 1, "form": "fits", "name": "map", "x": 5, "y": 3, "a": "1", "b": "2"}
KNOWN |= {"since": "2021A", "date": "2021-03-05"}
"""values that a test may take so as to come further than to the first refusal"""


def described() -> str:
    document = create_app(ServerSettings()).openapi()
    document["info"]["version"] = "of the software"
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def test_the_description_is_the_snapshot() -> None:
    assert described() == SNAPSHOT.read_text(encoding="utf-8"), __doc__


def test_every_route_is_described_with_its_answers_and_its_problems() -> None:
    for path, operations in json.loads(described())["paths"].items():
        for operation in operations.values():
            answers = operation["responses"]
            assert operation["summary"], path
            assert list(answers["4XX"]["content"]) == ["application/problem+json"], path
            assert list(answers["5XX"]["content"]) == ["application/problem+json"], path
            for answer in answers.values():
                assert answer.get("content", {}).get("application/json", {}).get("schema") != {}, path


def check_refusal(got: Any) -> None:
    assert got.status_code < 500, (got.request.url, got.text)
    if got.status_code >= 400:
        assert got.headers["content-type"] == "application/problem+json", got.request.url
        assert got.json()["status"] == got.status_code
        assert got.json()["detail"].endswith((".", "?")), got.text


CONFORMANCE = ("status_code", "content_type", "response_headers", "response_schema")


@pytest.mark.parametrize(
    ("place", "wanted"), [("sqlite", "negative"), ("postgresql", "positive")], indirect=["place"]
)
def test_whatever_is_asked_the_answer_is_as_described(story_client: TestClient, wanted: str) -> None:
    """What is wrong never comes as far as the database, so that each kind is asked one way."""
    import schemathesis  # imported here: it takes as long as all else that is collected
    from schemathesis import Case, GenerationMode
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    checks = [CHECKS.get_one(f"{name}_conformance") for name in CONFORMANCE]
    mode = GenerationMode(wanted)
    document = json.loads(described())
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        takes_nothing = not operation.query and not operation.body
        if mode is GenerationMode.NEGATIVE and takes_nothing:
            continue  # there is nothing that could be wrong

        @settings(
            max_examples=1 if takes_nothing else 2,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
        def ask(case: Case, known: bool) -> None:
            if known:
                case.path_parameters.update({k: KNOWN[k] for k in case.path_parameters if k in KNOWN})
            request = case.as_transport_kwargs(base_url="http://testserver")
            if len(str(request.get("params"))) > 5000:
                return  # the client that asks would refuse to
            taken = ("method", "url", "params", "headers", "json", "content")
            got = story_client.request(**{name: request[name] for name in taken if request.get(name)})
            check_refusal(got)
            case.validate_response(got, checks=checks)

        ask()


ODD = [
    *("", " ", "\x00", "a\x00b", "\n", "\ud800", "\ufffe", "\U0010ffff", "x" * 3000, "%", "../..", "a/b"),
    *("nan", "inf", "-inf", "1e999", "1e308", "-1", "0", "2147483648", "9223372036854775808", "9" * 400),
    *("0001-01-01", "9999-12-31", "99999-01-01", "9999-12-31T23:59:59Z", "JD 5373484.5", "MJD 1e9"),
    *("0001-01-01..9999-12-31", "tx0", "tx9223372036854775808", "٣", "²", "(" * 150, "~" * 150, "HOT|"),
    *("2021-03-05", "now", "2021A", "1", "2x2", "90,1000", "nan,1", "hp:1;"),
]


def test_odd_values_in_any_parameter_are_answered_or_refused_with_a_problem(
    story_client: TestClient, place: tuple[Path, str]
) -> None:
    """Each parameter gets a part of them, others than its neighbours; most are the same for any database."""
    step = 8 if place[1].startswith("postgresql") else 4

    def escaped(value: object) -> str:
        return quote(str(value).encode("utf-8", "surrogatepass"), safe="")

    for path, operations in json.loads(described())["paths"].items():
        parameters = operations.get("get", {}).get("parameters", [])
        for number, chosen in enumerate(parameters):
            for odd in ODD[number % step :: step]:
                values = {p["name"]: KNOWN.get(p["name"], "x") for p in parameters if p["required"]}
                values[chosen["name"]] = odd
                url = path
                for parameter in parameters:
                    if parameter["in"] == "path":
                        name = parameter["name"]
                        url = url.replace(f"{{{name}}}", escaped(values.pop(name)))
                query = "&".join(f"{name}={escaped(value)}" for name, value in values.items())
                check_refusal(story_client.get(f"{url}?{query}"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"headers": [{"A": NaN}]}',
        b'{"headers": [{"A": 1e999}]}',
        b'{"headers": [{"\\ud800": "\\u0000"}]}',
        b'{"headers": [{"NAXIS1": ' + b"9" * 5000 + b"}]}",
        b'{"headers": [{"NAXIS1": 64, "NAXIS2": 48, "DATE-OBS": "9999-12-31T23:59:59", "EXPTIME": 1e308}]}',
        b"[" * 20_000,
        b"\xff\xfe",
    ],
)
def test_odd_bodies_are_answered_or_refused_with_a_problem(story_client: TestClient, body: bytes) -> None:
    check_refusal(
        story_client.post("/v1/resolve", content=body, headers={"Content-Type": "application/json"})
    )


@pytest.mark.parametrize("url", ["/v1/cameras", "/v1/masks/1/file.fits", "/v1/masks/99", "/healthz"])
def test_head_is_get_without_the_body(story_client: TestClient, url: str) -> None:
    head, whole = story_client.head(url), story_client.get(url)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers == whole.headers


if __name__ == "__main__":
    SNAPSHOT.write_text(described(), encoding="utf-8")
