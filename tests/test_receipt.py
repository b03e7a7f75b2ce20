"""Receipts say again exactly what was asked."""

from __future__ import annotations

import string
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpix_registry.errors import UsageError
from hotpix_registry.registry.question import Question
from hotpix_registry.registry.receipt import read_receipt, write_receipt

SHA = "0123456789abcdef" * 4

names = st.text(string.ascii_lowercase + string.digits + "-._", min_size=1, max_size=20).filter(
    lambda name: name[0] not in "-._"
)
texts = st.text(string.printable.strip(), min_size=1, max_size=12)
parts = st.fixed_dictionaries(
    {},
    optional={
        "binning": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "readout_mode": texts,
        "gain_setting": st.integers(0, 600).map(float),
        "offset_setting": st.integers(0, 600).map(float),
        "sub_frame": st.tuples(*[st.integers(0, 9999)] * 4),
        "row_order": st.sampled_from(["TOP-DOWN", "BOTTOM-UP"]),
        "bayer_pattern": st.sampled_from(["RGGB", "GBRG"]),
    },
)
questions = st.builds(
    Question,
    camera=names,
    date=st.dates(date(2, 1, 1), date(9998, 1, 1)).map(str)
    | st.sampled_from(["2018-08-22T04:00:00Z", "1969-07-20T20:17:40.000001Z"]),
    temperature_c=st.none() | st.floats(-120, 30),
    exposure_s=st.none() | st.floats(0, 1e9),
    configuration=parts,
    preferred=parts | st.just({"sub_frame": None, "row_order": "TOP-DOWN", "bayer_pattern": None}),
    allow_binning=st.booleans(),
    preset=st.sampled_from(["default", "all", "HOT|UNSTABLE", "~(WARM|PEDESTAL)", "HOT|WARM"]),
    fallback=st.sampled_from([None, "previous", "nearest", "warmer"]),
    max_age_days=st.none() | st.integers(0, 9999),
    allow_revoked=st.booleans(),
)


@given(questions)
def test_what_is_written_is_read_back(question: Question) -> None:
    text = write_receipt(question, question.camera, "1a2b3c4d", 12, 3, SHA)
    assert read_receipt(text) == ("1a2b3c4d", 12, 3, SHA[:12], question)
    assert " " not in text
    assert text.isascii()


def test_an_ordinary_receipt_fits_one_fits_card() -> None:
    question = Question(camera="aspen", date="2018-08-22", temperature_c=-20.0)
    text = write_receipt(question, "aspen", "1a2b3c4d", 1234, 123, SHA)
    assert text == "hp:1a2b3c4d/1234/123/0123456789ab?c=aspen&d=20180822&t=-20"
    assert len(text) <= 68


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hp:",
        "hp:1a2b3c4d/1/2/0123456789ab",
        "hp:1a2b3c4d/1/2/0123456789ab?c=aspen",
        "hp:1a2b3c4d/1/2/0123456789ab?c=aspen&d=yesterday",
        "hp:1a2b3c4d/1/2/0123456789ab?c=aspen&d=20180822&q=1",
        "hp:1a2b3c4d/1/2/0123456789ab?c=aspen&d=20180822&x=1",
        "hp:1a2b3c4d/1/2/0123456789ab?c=aspen&d=20180822&f=z",
        "hp:1a2b3c4d/1/2/0123456789ab?c=aspen&d=20180822&b=few",
        f"hp:1a2b3c4d/1/2/0123456789ab?c=aspen&d={'9' * 40}us",
        f"hp:1a2b3c4d/1/2/0123456789ab?c=aspen&d={'9' * 5000}us",
        f"hp:1a2b3c4d/1/2/0123456789ab?c=aspen&d=20180822&a={'9' * 5000}",
        f"hp:1a2b3c4d/1/2/0123456789ab?c=aspen&d=20180822&b={'9' * 5000}",
    ],
)
def test_what_is_no_receipt_is_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no receipt|is damaged|asks for no date"):
        read_receipt(text)
