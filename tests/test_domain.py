"""Flags, and what survives being written and read."""

from hotpix_registry.domain import DQ, DQ_DESCRIPTIONS, Configuration, Facts, Kind


def test_every_flag_has_a_description_and_its_own_bit() -> None:
    assert set(DQ_DESCRIPTIONS) == set(DQ)
    assert [flag.value for flag in DQ] == [1 << n for n in range(10)]


def test_a_configuration_keeps_its_digest_through_json() -> None:
    full = Configuration(
        binning=(2, 2),
        readout_mode="8 MHz",
        gain_setting=120.0,
        sub_frame=(0, 0, 100, 50),
        bayer_pattern="RGGB",
    )
    assert Configuration.from_dict(full.as_dict()) == full
    assert full.digest != Configuration().digest
    assert str(full) == "bin 2x2, mode 8 MHz, gain 120, 100x50 at 0,0, RGGB"


def test_facts_survive_json() -> None:
    facts = Facts(
        kind=Kind.DARK, frame_type="Dark Frame", shape=(10, 20), exptime_s=60.0, sources={"exptime_s": "EXP"}
    )
    assert Facts.from_dict(facts.as_dict()) == facts
