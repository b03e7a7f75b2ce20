"""Headers of every family of programs say what they mean, and what cannot be known stays unknown."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpix_registry.domain import Facts, Kind, canonical_json
from hotpix_registry.errors import ProfileError
from hotpix_registry.fits import instants
from hotpix_registry.fits.headers import parse_header_text, read_header
from hotpix_registry.fits.keywords import (
    choose_profile,
    describe,
    interpret,
    load_keyword_profile,
    rules_digest,
    shipped_keyword_profiles,
)
from hotpix_registry.instants import iso, to_us
from tests.fits import header_texts as texts

MINIMAL = "NAXIS1 = 64\nNAXIS2 = 32\nIMAGETYP= 'DARK'\nEXPTIME = 60\nDATE-OBS= '2020-01-02T03:04:05'"


def facts_of(text: str, **given: object) -> Facts:
    header = parse_header_text("\n".join(texts.card(line) for line in text.splitlines()))
    return interpret(header, choose_profile(header, shipped_keyword_profiles()), **given)  # type: ignore[arg-type]


def with_cards(*lines: str) -> Facts:
    """The facts of a minimal dark with these cards besides; theirs win."""
    return facts_of("\n".join([*lines, MINIMAL]))


# --- every family -----------------------------------------------------------

# profile, kind, exposure [s], start, precision [s], set and measured temperature [°C], gain [e-/adu],
# configuration, instrument, serial
FAMILIES = {
    "CCDSOFT": (
        "generic", Kind.DARK, 120.0, "2016-04-02T03:04:05.678000Z", 1e-3, -20.0, -19.876543, 2.2,
        "bin 2x2", "SBIG ST-9 CCD Camera", None,
    ),
    "MAXIM": (
        "generic", Kind.DARK, 45.0, "2015-06-07T08:09:10Z", 1.0, -15.0, -14.98, 2.5,
        "bin 1x1, mode Fast, 60x40 at 10,20", "ST-8", None,
    ),
    "NINA": (
        "camera-gain", Kind.DARK, 180.0, "2022-05-05T23:02:03.004000Z", 1e-3, -5.0, -5.1, 0.245,
        "bin 1x1, mode Extend Fullwell 2CMS, gain 100, offset 50, top-down, RGGB", "QHY268C", None,
    ),
    "SGP": (
        "camera-gain", Kind.DARK, 600.0, "2019-02-03T04:06:07.123456Z", 1e-6, -20.0, -19.5, 1.25,
        "bin 1x1, gain 75, offset 20", "QHY163M", None,
    ),
    "APT": (
        "camera-gain", Kind.DARK, 90.0, "2020-11-12T13:14:15Z", 1.0, -20.0, None, 4.88,
        "bin 2x2, gain 139", "ZWO ASI1600MM Pro", None,
    ),
    "SHARPCAP": (
        "camera-gain", None, 30.0, "2024-08-09T10:11:12.765432Z", 1e-6, -10.0, -9.8, 0.03125,
        "bin 1x1, gain 200, offset 10, top-down", "ZWO ASI533MC Pro", "A1B2C3D4E5F60708",
    ),
    "INDI_OLD": (
        "generic", Kind.DARK, 30.0, "2010-03-04T05:06:07Z", 1.0, None, -20.0, None,
        "bin 2x2", None, None,
    ),
    "INDI": (
        "camera-gain", Kind.DARK, 60.0, "2023-01-02T03:04:05.067000Z", 1e-3, None, -10.0, None,
        "bin 1x1, gain 100, top-down", "ZWO CCD ASI183MM Pro", None,
    ),
    "INDIGO": (
        "generic", Kind.DARK, 15.0, "2022-10-11T12:13:14.150000Z", 1e-3, None, -12.5, None,
        "bin 1x1, gain 90, offset 12, top-down", None, None,
    ),
    "ORION": (
        "orion-camera-studio", Kind.DARK, 20.0, None, 1.0, 2.0, 1.5, None,
        "bin 1x1", "Orion G3 Deep Sky Monochromatic Camera", None,
    ),
    "DWARF": (
        "camera-gain", None, 15.0, "2024-02-03T04:05:06.789000Z", 1e-3, None, None, None,
        "bin 2x2, gain 80, GBRG", "DWARFII", None,
    ),
    "ARTEMIS": (
        "generic", Kind.DARK, 5.0, "2012-02-03T14:15:16Z", 1.0, 0.0, 1.25, None,
        "bin 1x1", None, None,
    ),
    "THESKY": (
        "generic", Kind.DARK, 300.0, "2022-07-08T09:10:11.120000Z", 1e-3, -25.0, -24.98, None,
        "bin 2x2", None, None,
    ),
    "SBIG_UTIL": (
        "generic", None, 2.0, "2013-10-30T21:07:37Z", 1.0, None, 21.5, None,
        "bin 1x1", None, None,
    ),
    "MICROOBSERVATORY": (
        "generic", None, 60.0, "2018-01-03T01:33:43.317000Z", 1e-3, None, -10.0, None,
        "bin 1x1", None, None,
    ),
    "SAAO": (
        "saao", Kind.DARK, 900.04, "2014-08-14T01:02:03Z", 1.0, None, -100.0, 2.1,
        "bin 1x1", "STE4 CCD", None,
    ),
    "NOT": (
        "not", Kind.DARK, 600.0, "2009-05-06T20:30:00Z", 1.0, None, None, None,
        "bin 2x1", "ALFOSC_FASU", None,
    ),
    "ING": (
        "ing", Kind.DARK, 1800.0, "1998-07-04T23:59:58.500000Z", 0.1, -100.15, -99.15, None,
        "bin 1x2", None, "TEK4",
    ),
    "LIVERPOOL": (
        "generic", Kind.DARK, 100.0, "2005-06-07T08:09:10.250000Z", 1e-3, -107.15, -106.15, 2.7,
        "bin 2x2", None, None,
    ),
    "ESO": (
        "eso", Kind.DARK, 600.0, "2001-02-03T12:00:00.250000Z", 1.0, None, None, None,
        "bin 2x4, mode 50kHz high", "VIMOS", None,
    ),
    "GEMINI": (
        "gemini", Kind.DARK, 8.0, "2016-01-01T19:47:37.078934Z", 1e-6, -193.15, -192.65, 4.44,
        "bin 1x1, mode Bright", "F2", "109",
    ),
    "RUBIN": (
        "rubin", Kind.DARK, 15.0, "2025-01-02T03:03:28.678000Z", 1e-3, -100.0, -99.8, None,
        "bin 1x1", "lsstCam R22_S11", "E2V-CCD250-001",
    ),
    "DECAM": (
        "decam", Kind.DARK, 300.0, "2013-01-02T03:04:05.678901Z", 1e-6, None, None, 4.25,
        "bin 1x1", "DECam N4", "S3-200_000000-1-1",
    ),
    "HSC": (
        "subaru-hsc", Kind.DARK, 300.0, "2014-03-04T06:15:55.908000Z", 1e-3, None, -100.5, 3.3,
        "bin 1x1", "HSC 51", "121",
    ),
    "SUPRIMECAM": (
        "subaru-suprimecam", Kind.BIAS, 0.0, "2008-04-23T08:02:27.204000Z", 1e-3, None, -106.9, None,
        "bin 1x1", "SuprimeCam w93c2", None,
    ),
    "MEGAPRIME": (
        "megaprime", Kind.DARK, 900.04, "2009-11-01T14:33:32.400000Z", 1e-2, None, -120.5, 1.6,
        "bin 1x1", "MegaPrime ccd03", "8352-00-1",
    ),
    "CCDPROC_GUIDE": (
        "generic", Kind.MASTER_DARK, 1000.0, "2018-08-22T04:00:01Z", 1.0, -10.0, -10.0, None,
        "bin 1x1", "Aspen CG16M", None,
    ),
    "PIXINSIGHT": (
        "generic", Kind.MASTER_DARK, 300.0, "2021-02-03T04:05:06Z", 1.0, None, None, None,
        "bin 1x1", "ZWO ASI2600MM Pro", None,
    ),
    "SIRIL": (
        "camera-gain", Kind.MASTER_DARK, 120.0, "2021-02-03T04:05:06Z", 1e-3, None, None, None,
        "bin 1x1, gain 100, offset 30", "ZWO ASI2600MC Pro", None,
    ),
    "APP": (
        "camera-gain", Kind.MASTER_DARK, 60.0, None, 1.0, None, None, None,
        "bin 1x1, gain 120", "ZWO ASI294MC Pro", None,
    ),
}  # fmt: skip


def test_every_header_text_is_in_the_table() -> None:
    assert set(FAMILIES) == set(texts.ALL)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_header_of_each_family_says_what_it_means(family: str) -> None:
    facts = facts_of(texts.ALL[family])

    assert (
        facts.keyword_profile,
        facts.kind,
        facts.exptime_s,
        iso(facts.start_us),
        pytest.approx(facts.start_precision_s),
        facts.set_temp_c,
        facts.ccd_temp_c,
        facts.gain_e_per_adu,
        str(facts.configuration),
        facts.instrument,
        facts.serial,
    ) == FAMILIES[family]


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"ORION", "APP"}))
def test_darks_of_all_families_but_those_without_an_instant_are_accepted(family: str) -> None:
    assert facts_of(texts.ALL[family]).problems == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_and_its_stored_text_are_interpreted_alike(tmp_path: Path, family: str) -> None:
    path = tmp_path / "a.fits"
    cards = [
        line for line in texts.ALL[family].splitlines() if not line.startswith(("SIMPLE", "BITPIX", "NAXIS"))
    ]
    path.write_bytes(texts.image("\n".join(cards)))
    header = read_header(path)
    profile = choose_profile(header, shipped_keyword_profiles())

    assert interpret(parse_header_text(header.text), profile) == interpret(header, profile)


# --- what a frame is --------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("Dark Frame", Kind.DARK),
        ("DARK", Kind.DARK),
        ("dark ( 1 )", Kind.DARK),
        ("Dark_Frame", Kind.DARK),
        ("darks", Kind.DARK),
        ("Bias Frame", Kind.BIAS),
        ("zero", Kind.BIAS),
        ("BIAS", Kind.BIAS),
        ("Master Dark", Kind.MASTER_DARK),
        ("MasterDark", Kind.MASTER_DARK),
        ("combined dark", Kind.MASTER_DARK),
        ("MASTER_BIAS", Kind.MASTER_BIAS),
        ("dark mask", None),
        ("dark flat", None),
        ("DARKFLAT", None),
        ("flat dark", None),
        ("FlatDark", None),
        ("Master Dark Flat", None),
        ("LIGHT", None),
        ("object", None),
        ("", None),
    ],
)
def test_only_darks_and_biases_are_ours(written: str, kind: Kind | None) -> None:
    facts = with_cards(f"IMAGETYP= '{written}'", "NCOMBINE= 1")

    assert facts.kind is kind
    assert facts.frame_type == written


def test_a_header_without_a_type_takes_the_users_word() -> None:
    facts = facts_of(texts.SBIG_UTIL, kind=Kind.DARK)

    assert (facts.kind, facts.frame_type, facts.sources["kind"]) == (Kind.DARK, "", "--type")


@pytest.mark.parametrize(
    ("written", "kind"),
    [("LIGHT", None), ("Flat Field", None), ("no such type", None), ("Bias Frame", Kind.BIAS)],
)
def test_the_users_word_does_not_change_what_a_header_says(written: str, kind: Kind | None) -> None:
    facts = facts_of(f"IMAGETYP= '{written}'\n{MINIMAL}", kind=Kind.DARK)

    assert (facts.kind, facts.frame_type, facts.sources["kind"]) == (kind, written, "IMAGETYP")


def test_the_users_word_serves_for_a_type_that_is_left_empty() -> None:
    facts = facts_of(f"IMAGETYP= ''\n{MINIMAL}", kind=Kind.DARK)

    assert (facts.kind, facts.frame_type, facts.sources["kind"]) == (Kind.DARK, "", "--type")


@pytest.mark.parametrize(
    ("line", "n"),
    [
        ("NCOMBINE= 10", 10),
        ("SNAPSHOT= 12 / Number of images combined", 12),
        ("STACKCNT= 7", 7),
        ("NUMFRAME= 30", 30),
        ("HISTORY ImageIntegration.numberOfImages: 25", 25),
    ],
)
def test_a_dark_of_several_frames_is_a_master_dark(line: str, n: int) -> None:
    facts = with_cards(line)

    assert (facts.kind, facts.n_combined) == (Kind.MASTER_DARK, n)


def test_a_combined_dark_without_a_number_asks_for_it() -> None:
    facts = with_cards("COMBINED= T")

    assert facts.kind is Kind.MASTER_DARK
    assert "give --ncombine" in facts.problems[0]
    assert facts_of(f"COMBINED= T\n{MINIMAL}", n_combined=9).problems == ()
    assert facts_of(f"COMBINED= T\n{MINIMAL}", n_combined=9).n_combined == 9


def test_a_dark_of_zero_seconds_is_a_bias() -> None:
    assert with_cards("EXPTIME = 0").kind is Kind.BIAS


def test_a_bias_needs_no_exposure_time_and_keeps_a_short_one() -> None:
    bias = "NAXIS1 = 8\nNAXIS2 = 6\nIMAGETYP= 'bias'\nDATE-OBS= '2020-01-02T03:04:05'"

    assert (facts_of(bias).exptime_s, facts_of(bias).problems) == (0.0, ())
    assert facts_of(f"{bias}\nEXPTIME = 0.001").exptime_s == 0.001


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("adu", "adu"), ("ADU", "adu"), ("DNs", "adu"), ("counts", "adu"), ("", "adu"),
        ("electron", "electron"), ("e-", "electron"), ("e-/s", "electron/s"), ("electron / s", "electron/s"),
        ("electron s-1", "electron/s"), ("adu/s", "adu/s"),
    ],
)  # fmt: skip
def test_units_have_one_spelling(written: str, unit: str) -> None:
    facts = with_cards(f"BUNIT = '{written}'")

    assert (facts.unit, facts.problems) == (unit, ())


def test_a_unit_that_no_dark_has_is_a_problem() -> None:
    assert "BUNIT = 'Jy' is no unit of a dark" in with_cards("BUNIT = 'Jy'").problems[0]


@pytest.mark.parametrize("line", ["CALSTAT = 'BD'", "SUBBIAS = 'ccd=<CCDData>'", "ZEROCOR = 'Jan 1 zero'"])
def test_a_subtracted_bias_is_noticed(line: str) -> None:
    assert with_cards(line).bias_subtracted is True
    assert with_cards("CALSTAT = 'D'").bias_subtracted is None


def test_sections_of_a_trimmed_frame_are_history() -> None:
    assert facts_of(texts.SAAO).overscan_section == "[   1:  4,   1: 52]"
    assert facts_of(texts.SAAO).trim_section == "[   5: 50,   1: 52]"
    guide = facts_of(texts.CCDPROC_GUIDE)
    assert (guide.overscan_section, guide.trim_section) == (None, None)
    assert (guide.n_combined, guide.unit, guide.bias_subtracted) == (20, "electron", True)
    assert facts_of(texts.MEGAPRIME).overscan_section is None


@pytest.mark.filterwarnings("ignore:Keyword name 'subtract_bias'")
def test_a_dark_combined_by_ccdproc_is_understood(tmp_path: Path) -> None:
    import ccdproc
    from astropy import units as u

    frames = [
        CCDData(
            np.full((6, 8), level),
            unit="adu",
            meta={"IMAGETYP": "DARK", "EXPTIME": 90.0, "DATE-OBS": "2018-08-22T04:00:01"},
        )
        for level in (100.0, 101.0, 102.0)
    ]
    master = ccdproc.combine(frames, method="average")
    master.meta["combined"] = True
    master = ccdproc.subtract_bias(master, CCDData(np.ones((6, 8)), unit=u.adu))
    master.write(tmp_path / "combined_dark_90.fits")

    header = read_header(tmp_path / "combined_dark_90.fits")
    profile = choose_profile(header, shipped_keyword_profiles())
    facts = interpret(header, profile)

    assert (facts.kind, facts.unit, facts.bias_subtracted) == (Kind.MASTER_DARK, "adu", True)
    # ccdproc.combine does not write of how many frames; its Combiner does, as NCOMBINE.
    assert "give --ncombine" in facts.problems[0]
    assert interpret(header, profile, n_combined=3).problems == ()


# --- when, and how long -----------------------------------------------------


@pytest.mark.parametrize("value", ["-5.0", "NaN", "'nan'", "'inf'", "1E999", "'soon'", "T"])
def test_an_impossible_exposure_time_is_a_problem_that_names_it(value: str) -> None:
    facts = with_cards(f"EXPTIME = {value}")

    assert facts.exptime_s is None
    assert re.match(r"EXPTIME = .* is no exposure time; write the seconds into EXPTIME", facts.problems[0])


def test_a_missing_exposure_time_is_a_problem_that_names_where_it_was_sought() -> None:
    facts = facts_of("NAXIS1 = 8\nNAXIS2 = 6\nIMAGETYP= 'DARK'\nDATE-OBS= '2020-01-02T03:04:05'")

    assert "none of EXPTIME, EXPOSURE" in facts.problems[0]


@pytest.mark.parametrize(
    ("lines", "start", "precision_s"),
    [
        (["DATE-OBS= '2020-05-06T07:08:09.1234567'"], "2020-05-06T07:08:09.123456Z", 1e-6),
        (["DATE-OBS= '2020-05-06T07:08:09.1'"], "2020-05-06T07:08:09.100000Z", 0.1),
        (["DATE-OBS= '2020-05-06T07:08:09Z'"], "2020-05-06T07:08:09Z", 1.0),
        (["DATE-OBS= '2020-05-06T18:00:00-0700'"], "2020-05-07T01:00:00Z", 1.0),
        (["DATE-OBS= '2020-05-06T00:30:00+05:30'"], "2020-05-05T19:00:00Z", 1.0),
        (["DATE-OBS= '2020-05-06 07:08:09'"], "2020-05-06T07:08:09Z", 1.0),
        (["DATE-OBS= '2020/05/06'", "UT = '07:08:09.5'"], "2020-05-06T07:08:09.500000Z", 0.1),
        (["DATE-OBS= '2020-05-06'", "TIME-OBS= '07:08'"], "2020-05-06T07:08:00Z", 60.0),
        (["DATE-OBS= '2020-05-06'"], "2020-05-06T00:00:00Z", 86400.0),
        (["DATE-OBS= '2020-05-06'", "MJD-OBS = 58975.25"], "2020-05-06T06:00:00Z", 864.0),
        (["DATE-OBS= '04/07/18'", "UT = '01:02:03'"], "2018-07-04T01:02:03Z", 1.0),
        (["DATE-OBS= '04/07/98'", "UT = '01:02:03'"], "1998-07-04T01:02:03Z", 1.0),
        (["DATE-OBS= 'unknown'", "JD = 2458375.25"], "2018-09-13T18:00:00Z", 864.0),
        (["DATE-OBS= ''", "MJD-OBS = 58374.75"], "2018-09-13T18:00:00Z", 864.0),
        (["DATE-OBS= '2017-01-01T00:00:36'", "TIMESYS = 'TAI'"], "2016-12-31T23:59:60Z", 1.0),
        (["DATE-OBS= '2017-01-01T00:00:37'", "TIMESYS = 'TAI'"], "2017-01-01T00:00:00Z", 1.0),
        (["DATE-OBS= '2020-01-01T00:01:09.184'", "TIMESYS = 'TT'"], "2020-01-01T00:00:00Z", 1e-3),
    ],
)  # fmt: skip
def test_dates_are_instants_of_utc_with_a_precision(lines: list[str], start: str, precision_s: float) -> None:
    facts = with_cards(*lines)

    # An instant within a leap second is the last before it or the first after it.
    expected = {start, start.replace("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z")}
    assert iso(facts.start_us) in expected
    assert facts.start_precision_s == pytest.approx(precision_s)
    assert facts.problems == ()


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["DATE-OBS= '2020-13-06T07:08:09'"], "does not exist"),
        (["DATE-OBS= '2020-05-06T27:08:09'"], "a time that does not exist"),
        (["DATE-OBS= '2020-05-06 T07:08:09'"], "has no time that can be read"),
        (["DATE-OBS= '5/6/2020 7:08:09 PM'"], "is no date that can be read"),
        (["DATE-OBS= '2020-05-06T07:08:09'", "TIMESYS = 'LOCAL'"], "is no time scale known here"),
        (["DATE-OBS= '2020-05-06T07:08:09' / Time of observation (local)"], "local time"),
        (["DATE-OBS= '0001-01-01T00:00:00+0900'"], "outside the calendar"),
    ],
)
def test_dates_that_cannot_be_placed_are_problems_with_a_cure(lines: list[str], what: str) -> None:
    facts = with_cards(*lines)

    assert what in facts.problems[0]
    assert "DATE-OBS" in facts.problems[0]


def test_a_twelve_hour_clock_without_am_or_pm_is_refused() -> None:
    assert facts_of(texts.ORION).problems == (
        "DATE-OBS = '2020-03-04 T09:05:06' is on a 12-hour clock without AM or PM; "
        "write the UTC start of the exposure into DATE-OBS as 2018-08-22T04:00:00.",
    )


def test_the_julian_date_of_the_middle_is_not_the_start() -> None:
    lines = texts.SHARPCAP.replace("DATE-OBS", "DATE-END").splitlines()

    assert facts_of("\n".join(lines)).start_us is None


@given(st.datetimes(datetime(1972, 1, 2), datetime(2025, 1, 1)))
def test_tai_becomes_utc_as_astropy_has_it(moment: datetime) -> None:
    tai = Time(moment, scale="tai", format="datetime")
    utc = tai.utc.to_value("isot", subfmt="date_hms")

    ours = instants.to_utc(to_us(moment.replace(tzinfo=UTC)), "TAI")

    if ":60" not in utc:
        theirs = to_us(Time(utc, scale="utc").to_datetime().replace(tzinfo=UTC))
        assert abs(ours - theirs) <= 1000


# --- gain, temperature, settings --------------------------------------------


@pytest.mark.parametrize(
    ("lines", "e_per_adu", "setting"),
    [
        (["GAIN = 1.9 / e-/ADU"], 1.9, None),
        (["GAIN = 2.7 / [electrons/count] calibrated"], 2.7, None),
        (["GAIN = 4.44 / Detector Gain (e/ADU)"], 4.44, None),
        (["GAIN = 1.5 / Electrons per ADU"], 1.5, None),
        (["EGAIN = 1.0", "GAIN = 120 / Sensor gain"], 1.0, 120.0),
        (["GAIN = 100", "OFFSET = 30"], None, 100.0),
        (["GAIN = 2"], None, None),
        (["GAIN = 1.5"], None, None),
        (["GAIN = 1.5", "EGAIN = 1.5"], 1.5, None),
        (["E-GAIN = 1.49"], 1.49, None),
        (["EGAIN = 0"], None, None),
        (["EGAIN = 0.12 / Electrons per ADU at true ADC bit depth"], None, None),
        (["GAIN = 120", "SWCREATE= 'N.I.N.A. 3.0'"], None, 120.0),
    ],
)
def test_gain_is_told_from_the_gain_setting_or_stays_unknown(
    lines: list[str], e_per_adu: float | None, setting: float | None
) -> None:
    facts = with_cards(*lines)

    assert (facts.gain_e_per_adu, facts.configuration.gain_setting) == (e_per_adu, setting)


@pytest.mark.parametrize(
    ("lines", "set_c", "ccd_c"),
    [
        (["SET-TEMP= -10", "CCD-TEMP= -9.9"], -10.0, -9.9),
        (["TEMP_SET= -94.15", "CCDTEMP = -90.4"], -94.15, -90.4),
        (["CCD-TEMP= 170.15 / [Kelvin]"], None, -103.0),
        (["CAMTEMP = 271.15 / CCD Camera Temperature in Kelvin, =-1 if no data"], None, -2.0),
        (["CAMTEMP = -1 / CCD Camera Temperature in Kelvin, =-1 if no data"], None, None),
        (["CCD-TEMP= 180.2"], None, None),
        (["CCD-TEMP= -999"], None, None),
        (["CCD-TEMP= 'warm'"], None, None),
        ([], None, None),
    ],
)
def test_temperatures_are_celsius_and_implausible_ones_unknown(
    lines: list[str], set_c: float | None, ccd_c: float | None
) -> None:
    facts = with_cards(*lines)

    assert (facts.set_temp_c, facts.ccd_temp_c, facts.problems) == (set_c, ccd_c, ())


@pytest.mark.parametrize(
    ("lines", "binning"),
    [
        (["XBINNING= 2", "YBINNING= 3"], (2, 3)),
        (["XBINNING= 2"], (2, 2)),
        (["CCDSUM = '1 2'"], (1, 2)),
        (["BINNING = '2*2'"], (2, 2)),
        (["BINNING = '(1 x 1)'"], (1, 1)),
        (["BINNING = '4x2'"], (4, 2)),
        (["XBINNING= 2.0", "YBINNING= 2.0"], (2, 2)),
        (["XBINNING= 0", "BINX = 3", "BINY = 3"], (3, 3)),
        (["BINNING = 'none'"], (1, 1)),
        ([], (1, 1)),
    ],
)
def test_binning_is_two_whole_numbers(lines: list[str], binning: tuple[int, int]) -> None:
    assert with_cards(*lines).configuration.binning == binning


def test_colour_that_is_no_bayer_pattern_is_none() -> None:
    assert with_cards("COLORTYP= 'RGB'").configuration.bayer_pattern is None
    assert with_cards("COLORTYP= 'rggb'").configuration.bayer_pattern == "RGGB"


def test_a_window_in_the_corner_is_told_by_its_shape_alone() -> None:
    corner = with_cards("XORGSUBF= 0", "YORGSUBF= 0")
    assert corner.configuration.sub_frame is None
    assert corner.sources["sub_frame"] == "XORGSUBF, YORGSUBF"
    assert "sub_frame" not in with_cards("XORGSUBF= 0").sources
    assert with_cards("XORGSUBF= 0", "YORGSUBF= 5").configuration.sub_frame == (0, 5, 64, 32)


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("ASCOM Camera", False), ("Main", False), ("Apogee USB/Net", False), ("FLI", False),
        ("Finger Lakes Instruments", False), ("ArtemisHSC", False), ("CCD", False), ("SBIG", False),
        ("ST-7", True), ("FLI PL16803", True), ("Apogee Alta U9", True), ("SBIG STL-1001 3 CCD Camera", True),
        ("ZWO ASI294MC Pro", True),
    ],
)  # fmt: skip
def test_names_of_drivers_and_makers_are_no_cameras(name: str, usable: bool) -> None:
    assert with_cards(f"INSTRUME= '{name}'").instrument == (name if usable else None)


def test_colour_cubes_are_problems_of_darks_only() -> None:
    facts = facts_of(f"NAXIS = 3\nNAXIS3 = 3\n{MINIMAL}")

    assert facts.shape == (0, 0)
    assert "axes 64 × 32 × 3, not two" in facts.problems[0]


def test_coadded_and_live_stacked_frames_are_refused() -> None:
    assert "COADDS = 4" in facts_of(texts.GEMINI.replace("COADDS = 1", "COADDS = 4")).problems[0]
    assert "SUBEXP = 8" in with_cards("SUBEXP = 8").problems[0]


def test_every_fact_names_its_keyword() -> None:
    sources = facts_of(texts.NINA).sources

    assert sources["exptime_s"] == "EXPTIME"
    assert sources["gain_e_per_adu"] == "EGAIN"
    assert sources["gain_setting"] == "GAIN"
    assert sources["binning"] == "XBINNING, YBINNING"
    assert facts_of(texts.GEMINI).sources["start_us"] == "DATE-OBS, UTSTART, TIMESYS"
    assert facts_of(texts.RUBIN).sources["instrument"] == "INSTRUME, RAFTBAY, CCDSLOT"


def test_a_description_shows_fact_value_unit_and_keyword() -> None:
    header = parse_header_text(texts.CCDSOFT)
    rows = describe(header, interpret(header, choose_profile(header, shipped_keyword_profiles())))

    assert rows[:2] == [("type as written", "Dark Frame", "", "IMAGETYP"), ("kind", "dark", "", "IMAGETYP")]
    assert ("exposure time", "120", "s", "EXPTIME") in rows
    assert ("start", "2016-04-02T03:04:05.678000Z", "UTC", "DATE-OBS") in rows
    assert ("gain", "2.2", "e-/adu", "EGAIN") in rows
    assert ("shape (ny, nx)", "48, 64", "px", "NAXIS1, NAXIS2") in rows
    assert ("gain setting", "", "", "") in rows


# --- profiles ---------------------------------------------------------------


def test_a_users_profile_overrides_what_differs_and_inherits_the_rest() -> None:
    mine = load_keyword_profile(
        """
        [keywords]
        name = "mine"
        priority = 100
        [[match]]
        SWCREATE = "^MyProgram"
        OBSERVER = false
        [exptime_s]
        from = [{ keyword = "SHUTTER", unit = "min" }]
        [type.values]
        dark = "closed"
        """
    )
    text = "SWCREATE= 'MyProgram 1'\nSHUTTER = 2\nIMAGETYP= 'closed'\nSET-TEMP= -5\nNAXIS1 = 8\nNAXIS2 = 6"
    header = parse_header_text(text)

    chosen = choose_profile(header, [*shipped_keyword_profiles(), mine])
    facts = interpret(header, chosen)

    assert (chosen.name, facts.kind, facts.exptime_s, facts.set_temp_c) == ("mine", Kind.DARK, 120.0, -5.0)
    assert not mine.matches(parse_header_text(f"{text}\nOBSERVER= 'me'"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[keywords", "no valid TOML"),
        ("[match]\nA = 'b'", "has no name"),
        ("[keywords]\nname = 'x'\n[exptime]\nfrom = ['A']", "Did you mean 'exptime_s'"),
        ("[keywords]\nname = 'x'\n[exptime_s]\nform = ['A']", "Did you mean 'from'"),
        ("[keywords]\nname = 'x'\npriorty = 3", "Did you mean 'priority'"),
        ("[keywords]\nname = 'x'\npriority = 'high'", "a whole number"),
        (
            "[keywords]\nname = 'x'\n[exptime_s]\nfrom = [{ keyword = 'A', unit = 'hours' }]",
            "a unit among s, ms",
        ),
        ("[keywords]\nname = 'x'\n[serial]\nfrom = [{ keyword = 'A', unit = 's' }]", "none at all"),
        ("[keywords]\nname = 'x'\n[exptime_s]\nfrom = 'A'", "a list"),
        ("[keywords]\nname = 'x'\n[exptime_s]\nfrom = [{ unit = 's' }]", "either keyword or mean_of"),
        ("[keywords]\nname = 'x'\n[exptime_s]\nfrom = [{ keyword = 3 }]", "strings"),
        ("[keywords]\nname = 'x'\n[exptime_s]\nfrom = [{ keyword = 'A', missing = [nan] }]", "not finite"),
        ("[keywords]\nname = 'x'\n[exptime_s]\nfrom = [{ keyword = 'A', pattern = 'b' }]", "a group"),
        ("[keywords]\nname = 'x'\n[[match]]\nA = '('", "regular expression"),
        ("[keywords]\nname = 'x'\n[[match]]\nA = 3", "strings"),
        ("[keywords]\nname = 'x'\n[type.values]\nlight = 'light'", "Unknown key 'light'"),
        ("[keywords]\nname = 'x'\n[start]\nclock_hours = 13", "12 or 24"),
        ("[keywords]\nname = 'x'\n[[reject]]\nreason = 'no'", "when and reason"),
        ("[keywords]\nname = 'x'\nsince = 2020-01-01", "Unknown key 'since'"),
        ("keywords = 5", "has no name"),
        ("[keywords]\nname = 'x'\n[exptime_s]\nfrom = [2020-01-01]", "a date"),
        ("exptime_s = 5\n[keywords]\nname = 'x'", "a table"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("x = " + "{a=" * 5000, "nested too deeply"),
        ("x = " + "9" * 5000, "more than 64 bits"),
        ("[keywords]\nname = 'x'\npriority = 0x" + "f" * 5000, "more than 64 bits"),
        ("[keywords]\nname = 'x'\n[[match]]\nA = '(a{1,99999999999})'", "too large"),
        ("[keywords]\nname = 'x'\n[[match]]\nA = '" + "(" * 5000 + "'", "nested too deeply"),
    ],
)
def test_a_mistake_in_a_profile_is_one_sentence_and_what_to_do(text: str, what: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_keyword_profile(text)

    assert what in str(caught.value)
    assert caught.value.next_step


def test_a_users_own_generic_profile_keeps_what_it_does_not_change() -> None:
    mine = load_keyword_profile("[keywords]\nname = 'generic'\npriority = 0\n[exptime_s]\nfrom = ['T']")
    header = parse_header_text("T = 5\nIMAGETYP= 'DARK'")

    assert (interpret(header, mine).exptime_s, interpret(header, mine).kind) == (5.0, Kind.DARK)


def test_a_digest_changes_with_the_rules_and_not_with_the_words_around_them() -> None:
    plain = "[keywords]\nname = 'x'\n[exptime_s]\nfrom = ['A']\n"
    digest = load_keyword_profile(plain).digest

    assert load_keyword_profile(f"# a comment\n{plain}").digest == digest
    assert load_keyword_profile(plain.replace("'x'", "'x'\nsummary = 'mine'")).digest == digest
    assert load_keyword_profile(plain.replace("'A'", "'B'")).digest != digest
    assert load_keyword_profile(plain.replace("'x'", "'x'\npriority = 9")).digest != digest


def test_the_digest_of_all_rules_does_not_depend_on_their_order() -> None:
    profiles = shipped_keyword_profiles()

    assert rules_digest(profiles) == rules_digest(reversed(profiles))
    assert rules_digest(profiles) != rules_digest(profiles[1:])


def test_shipped_profiles_have_names_of_their_own_and_only_generic_matches_everything() -> None:
    profiles = shipped_keyword_profiles()

    assert len({profile.name for profile in profiles}) == len(profiles)
    assert [profile.name for profile in profiles if not profile.match] == ["generic"]
    assert choose_profile(parse_header_text(""), profiles).name == "generic"
    assert all(profile.summary for profile in profiles)


# --- the shared samples -----------------------------------------------------

# kind, exposure [s], start, set and measured temperature [°C], gain [e-/adu], configuration, instrument
SAMPLES = {
    "apt_asi294mc_light": (
        None, 240.0, "2018-09-17T21:04:46Z", -15.0, None, 1.00224268436432,
        "bin 1x1, gain 120", "ZWO ASI294MC Pro",
    ),
    "artemis_atik_light": (
        None, 5.0, "2011-01-21T15:58:27Z", 0.0, 1.94, None,
        "bin 1x1", None,
    ),
    "astropixelprocessor_masterflat": (
        None, 1.28, None, None, None, None,
        "bin 1x1, gain 120", "ZWO ASI294MC Pro",
    ),
    "ccdsoft_sbig_st402_dark": (
        Kind.DARK, 1200.0, "2017-10-18T22:18:22.658000Z", -15.0, -14.809517, 1.49,
        "bin 1x2", "SBIG ST-402 CCD Camera",
    ),
    "ccdsoft_sbig_stl1001_2024_dark": (
        Kind.DARK, 60.0, "2024-01-29T23:36:20.196000Z", -5.0, -4.817804, 2.06,
        "bin 1x1", "SBIG STL-1001 3 CCD Camera",
    ),
    "ccdsoft_sbig_stl1001_dark": (
        Kind.DARK, 60.0, "2017-09-08T21:05:05.501000Z", -5.0, -4.817804, 2.06,
        "bin 1x1", "SBIG STL-1001 3 CCD Camera",
    ),
    "dwarflab_light": (
        None, 15.0, "2023-06-10T21:38:19.442000Z", None, None, None,
        "bin 2x2, gain 110, GBRG", "DWARFII",
    ),
    "eso_isaac_science": (
        None, 4.0, "2006-04-13T06:32:38.944100Z", -208.15, -208.152, None,
        "bin 1x1, mode DoubleCorr", "ISAAC",
    ),
    "eso_vimos_dome": (
        None, 1.0, "2000-05-15T11:03:39.859201Z", None, None, None,
        "bin 1x1", "VIMOS",
    ),
    "gemini_f2_dark": (
        Kind.DARK, 3.0, "2017-01-01T19:47:37.078934Z", -193.15, -193.15, 4.44000005722046,
        "bin 1x1, mode Bright", "F2",
    ),
    "indi_old_drivers_template": (
        Kind.DARK, 60.0, None, None, -10.0, None,
        "bin 1x1", None,
    ),
    "indigo_template": (
        Kind.DARK, 60.0, "2024-01-29T23:46:42.861000Z", None, -10.0, None,
        "bin 1x1, gain 100, offset 10, top-down", None,
    ),
    "ing_iac_das_excerpt": (
        None, None, None, -100.15, -100.15, None,
        "bin 1x1", None,
    ),
    "liverpool_ratcam_excerpt": (
        None, None, None, -107.15, -106.15, 2.796,
        "bin 2x2", None,
    ),
    "lsst_latiss-AT_O_20230321_000053_dark": (
        Kind.DARK, 30.0, "2023-03-21T16:10:30.706000Z", -94.15, -90.4134, None,
        "bin 1x1", "LATISS R00_S00",
    ),
    "lsst_latiss-AT_O_20240624_000169_R00_S00_dark": (
        Kind.DARK, 30.0, "2024-06-25T07:10:03.383000Z", -104.15, -101.019, None,
        "bin 1x1", "LATISS R00_S00",
    ),
    "lsst_lsstCam-MC_O_20260315_000051_R01_S01_dark": (
        Kind.DARK, 5.0, "2026-03-15T22:50:17.832000Z", None, None, None,
        "bin 1x1", "lsstCam R01_S01",
    ),
    "lsstpkg_decam-0160496": (
        Kind.BIAS, 0.0, "2012-12-11T22:06:32.859252Z", None, None, 4.497442856495001,
        "bin 1x1", "DECam S1",
    ),
    "lsstpkg_hsc": (
        None, 30.0, "2013-11-02T06:15:55.908000Z", None, -101.158, 3.54,
        "bin 1x1", "HSC 50",
    ),
    "lsstpkg_megaprime": (
        None, 615.037, "2008-11-01T14:33:32.400000Z", None, -133.13, 1.62,
        "bin 1x1", "MegaPrime ccd02",
    ),
    "lsstpkg_sdss-fpC-006377-g4-0399": (
        None, 53.907456, "2006-09-20T06:00:49.730000Z", None, None, None,
        "bin 1x1", None,
    ),
    "lsstpkg_suprimecam-CORR40535770": (
        None, 200.0, "2007-04-23T08:02:27.204000Z", None, -106.89, None,
        "bin 1x1", "SuprimeCam w67c1",
    ),
    "maximdl407_sbig_st7_dark": (
        Kind.DARK, 300.0, "2019-10-28T21:55:08Z", -17.0, -16.939097, 2.549999952316284,
        "bin 1x1", "ST-7",
    ),
    "maximdl410_apogee_light": (
        None, 120.0, "2011-09-01T02:09:05Z", -18.9, -19.015454, None,
        "bin 1x1", "Apogee Alta",
    ),
    "maximdl524_itelescope_apogee_light": (
        None, 300.0, "2018-07-04T14:03:03Z", -35.0, -34.993802, None,
        "bin 1x1, mode Monochrome", None,
    ),
    "maximdl627_itelescope_fli_light": (
        None, 300.0, "2021-12-29T15:42:46.530000Z", -25.0, -25.0, None,
        "bin 1x1, mode 8 MHz (RBI Flood), top-down", None,
    ),
    "microobservatory_light": (
        None, 60.0, "2017-12-20T01:33:43.317000Z", None, -2.15, None,
        "bin 1x1", None,
    ),
    "nina_asi294mc_light": (
        None, 30.0, "2021-03-02T20:19:00.455000Z", -10.0, -10.0, 1.00224268436432,
        "bin 1x1, gain 120, offset 30, top-down, RGGB", "ZWO ASI294MC Pro",
    ),
    "not_alfosc_flat": (
        None, 1.0, "2011-07-01T20:34:42.071000Z", None, None, None,
        "bin 1x1", "ALFOSC_FASU",
    ),
    "orion_camera_studio_dark": (
        Kind.DARK, 20.0, None, 1.963141, 2.624199, None,
        "bin 1x1", "Orion G3 Deep Sky Monochromatic Camera",
    ),
    "saao_ste3_object": (
        None, 150.04, "2013-07-13T00:57:33Z", None, -92.95, 1.9,
        "bin 1x1", "STE3 CCD",
    ),
    "sbig_util_snap": (
        None, 1.0, "2014-10-30T21:07:37Z", None, 26.225778, None,
        "bin 1x1", None,
    ),
    "sgp_asi294mc_light": (
        None, 30.0, "2020-05-30T00:22:49.096882Z", -18.0, -17.5, 3.99000000953674,
        "bin 1x1, gain 120, offset 30", "ZWO ASI294MC Pro",
    ),
    "sharpcap3_asi290mm_light": (
        None, 2.0, "2019-04-29T20:25:29.821958Z", None, 12.7, None,
        "bin 1x1", "ZWO ASI290MM Mini",
    ),
    "sharpcap4_asi183mc_light": (
        None, 280.0, "2025-03-19T22:51:59.384632Z", 0.0, -0.5, 0.00766,
        "bin 1x1, gain 300, offset 8, top-down", "ZWO ASI183MC Pro",
    ),
    "theskyx_ascom_atik16200_dark": (
        Kind.DARK, 120.0, "2023-08-15T02:40:00.466000Z", -20.0, -20.02, None,
        "bin 2x2", None,
    ),
}  # fmt: skip


def sample_facts(name: str) -> Facts:
    """The facts of a shared header: cards, or the YAML dumps of the Rubin packages turned into cards."""
    content = (texts.SHARED_HEADERS / f"{name}.txt").read_text(encoding="utf-8")
    lines = [line for line in content.splitlines() if not line.startswith("#")]
    if name.startswith("lsst_"):
        pairs = [re.match(r"([^:]+): (.*)", line) for line in lines]
        lines = [
            f"{m[1]:8}= {m[2].replace('true', 'T')}" for m in pairs if m and m[2] != "null" and len(m[1]) < 9
        ]
    elif name.startswith("lsstpkg_"):
        flat = re.sub(r"\n {2,}- ", ", ", content).replace("- - ", "- [")
        cards = re.findall(r"^- \[([A-Z0-9_-]{1,8}), \w+, ('[^']*'|[^,\n]*)(?:, '?([^\n\]']*))?", flat, re.M)
        lines = [f"{key:8}= {'T' if value == 'true' else value} / {comment}" for key, value, comment in cards]
    second = [i for i, line in enumerate(lines) if line.startswith("SIMPLE")][1:]
    return facts_of("\n".join(lines[: second[0]] if second else lines))


@pytest.mark.skipif(not texts.SHARED_HEADERS.is_dir(), reason="no shared headers at ../shared/data/headers")
def test_every_shared_header_is_in_the_table() -> None:
    assert set(SAMPLES) == {path.stem for path in texts.SHARED_HEADERS.glob("*.txt")}


@pytest.mark.skipif(not texts.SHARED_HEADERS.is_dir(), reason="no shared headers at ../shared/data/headers")
@pytest.mark.parametrize("name", SAMPLES)
def test_a_shared_header_is_understood(name: str) -> None:
    facts = sample_facts(name)

    assert (
        facts.kind,
        facts.exptime_s,
        iso(facts.start_us),
        facts.set_temp_c,
        facts.ccd_temp_c,
        facts.gain_e_per_adu,
        str(facts.configuration),
        facts.instrument,
    ) == SAMPLES[name]


@pytest.mark.skipif(not texts.SHARED_DARKS.is_dir(), reason="no real darks at ../shared/data/darks")
def test_the_real_darks_are_understood() -> None:
    found: dict[tuple[str, str, float | None, float | None], int] = {}
    for path in sorted(path for path in texts.SHARED_DARKS.rglob("*") if path.is_file()):
        header = read_header(path)
        facts = interpret(header, choose_profile(header, shipped_keyword_profiles()))
        assert facts.problems == ()
        assert facts.start_us is not None
        key = (str(facts.instrument), str(facts.kind), facts.set_temp_c, facts.exptime_s)
        found[key] = found.get(key, 0) + 1

    stl, st7 = "SBIG STL-1001 3 CCD Camera", "ST-7"
    assert found == {
        (stl, "bias", -5.0, 0.0): 3,
        (stl, "dark", -5.0, 10.0): 1,
        (stl, "dark", -5.0, 30.0): 1,
        (stl, "dark", -5.0, 60.0): 6,
        (stl, "dark", -5.0, 300.0): 1,
        (stl, "bias", -10.0, 0.0): 3,
        (stl, "dark", -10.0, 10.0): 1,
        (stl, "dark", -10.0, 30.0): 1,
        (stl, "dark", -10.0, 60.0): 1,
        (stl, "dark", -10.0, 300.0): 1,
        (st7, "dark", -17.0, 120.0): 5,
        (st7, "dark", -17.0, 300.0): 5,
        (st7, "dark", -17.0, 900.0): 5,
    }


# --- anything at all --------------------------------------------------------

_SEEN = {w for text in texts.ALL.values() for w in re.findall(r"^([A-Z0-9_-]{1,8}) *=", text, re.M)}
_KEYWORDS = st.sampled_from(sorted(_SEEN | {"SUBEXP", "COADDS", "NAXIS", "NAXIS3"}))
_FIELDS = st.one_of(
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["T", "F", "''", "'DARK'", "'2020-01-02'", "'12:13:14'", "'TAI'", "'1 x 1'"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30).map(lambda s: f"'{s}'"),
    st.text(max_size=30),
)


@given(
    family=st.sampled_from([*texts.ALL.values(), ""]),
    cards=st.lists(st.tuples(_KEYWORDS, _FIELDS), max_size=8),
    kind=st.sampled_from([None, *Kind]),
)
@settings(deadline=None)
def test_any_header_has_facts_that_can_be_stored(
    family: str, cards: list[tuple[str, str]], kind: Kind | None
) -> None:
    header = parse_header_text("\n".join(f"{keyword:8}= {value}" for keyword, value in cards) + "\n" + family)

    for profile in shipped_keyword_profiles():
        facts = interpret(header, profile, kind=kind)
        canonical_json(facts.as_dict())
        assert Facts.from_dict(facts.as_dict()) == facts
        assert len(describe(header, facts)) == 27
        assert facts.exptime_s is None or (facts.exptime_s >= 0 and math.isfinite(facts.exptime_s))
        assert (facts.start_us is None) <= bool(facts.problems)
