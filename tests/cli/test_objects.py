"""Frames elsewhere, on the command line: what is wrong with a store is one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.cli.conftest import Hotpix
from tests.object_store import BUCKET, Store


@pytest.mark.parametrize(
    ("key", "failure", "code", "words"),
    [
        ("", (200, ""), 7, "there are no credentials for S3. Set AWS_PROFILE"),
        ("observer", (404, "NoSuchBucket"), 2, f"There is no bucket s3://{BUCKET}. Check its name"),
        ("observer", (403, "ExpiredToken"), 7, "does not accept these credentials (ExpiredToken). Renew"),
        ("observer", (403, "AccessDenied"), 1, "access is denied. Ask for s3:GetObject"),
    ],
)
def test_what_is_wrong_with_a_bucket_is_one_sentence(
    hotpix: Hotpix, store: Store, key: str, failure: tuple[int, str], code: int, words: str
) -> None:
    store.failures.append((BUCKET, *failure))
    settings = store.environment | {"AWS_ACCESS_KEY_ID": key, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    done = hotpix.with_settings(**settings)("ingest", "-r", f"s3://{BUCKET}/").refused(code, words)
    assert "not-to-be-told" not in done.err


def test_without_the_extra_a_sentence_names_it(hotpix: Hotpix) -> None:
    missing = hotpix.cwd / "missing"
    missing.mkdir()
    (missing / "fsspec.py").write_text("raise ImportError(name='fsspec')")
    bare = replace(hotpix.with_settings(PYTHONPATH=str(missing)), from_scratch=True)
    sentence = (
        "libraries that are not installed (fsspec). Install them with `pip install 'hotpix-registry[s3]'`."
    )
    bare("ingest", "s3://bucket/dark.fits").refused(2, sentence)
