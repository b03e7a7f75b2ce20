"""The pieces of work that are measured, each in a process of its own.

    python -m tests.benchmarks.works NAME FOLDER

prints `{"seconds": …, "peak_mb": …}` and whatever else the work found out. Imports are not counted.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

CHECKOUT = Path(__file__).parents[2]

Work = Callable[[Path], dict[str, Any]]
WORKS: dict[str, Work] = {}
_clock: dict[str, float] = {}
_WORKERS = 2


FORKING = {"ours_combine_20", "ours_combine_100", "ours_build", "build_of_all"}
"""Works whose forks' memory counts, too; looking at it takes time, so that it is a run of its own."""
_WATCHED = "HOTPIX_BENCHMARK_WATCHED"


def work(function: Work) -> Work:
    WORKS[function.__name__] = function
    return function


@contextmanager
def measured() -> Iterator[None]:
    """The part of the work that counts; what it imports was imported before, for us as for the peers."""
    import hotpix_registry.fits.pixels
    import hotpix_registry.science.survey  # noqa: F401

    start = time.perf_counter()
    try:
        yield
    finally:
        _clock["seconds"] = time.perf_counter() - start


def files(folder: Path, pattern: str, n: int) -> list[Path]:
    """Files whose bytes the system has at hand: some systems take idle ones out of their cache."""
    found = sorted(folder.glob(pattern))[:n]
    assert len(found) == n, f"{folder} has {len(found)} of {n} files {pattern}"
    piece = bytearray(1 << 20)
    for path in found:
        with path.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass
    return found


def _twenty(folder: Path) -> list[Path]:
    return files(folder / "frames", "*1000s*.fits", 20)


def _ten(folder: Path) -> list[Path]:
    return files(folder / "frames", "*90s*.fits", 10)


def run(name: str, folder: Path) -> dict[str, Any]:
    """What a piece of work found out in a process of its own."""
    found = _run(name, folder, {})
    if name in FORKING:
        found["peak_mb"] = _run(name, folder, {_WATCHED: "1"})["peak_mb"]
    return found


def _run(name: str, folder: Path, variables: dict[str, str]) -> dict[str, Any]:
    left_out = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE")
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.works", name, str(folder)],
        cwd=CHECKOUT,
        env=environment | variables,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-4000:]}")
    said = done.stdout.splitlines()  # astropy logs to standard output, too; the result comes last
    found: dict[str, Any] = json.loads(said[-1]) if said else {}
    return found


# --- combining --------------------------------------------------------------------------


def _read(path: Path) -> Any:
    with path.open("rb") as stream:
        while stream.readinto(_BUFFER):
            pass


_BUFFER = bytearray(1 << 20)


def _mean_of(paths: list[Path]) -> Any:
    """Read and average, nothing else: what a user cannot hope to beat by much."""
    from hotpix_registry.fits.pixels import open_rows

    rows = [open_rows(path) for path in paths]
    ny, nx = rows[0].shape
    mean = np.empty((ny, nx), np.float32)
    for y0 in range(0, ny, 64):
        total = np.zeros((min(64, ny - y0), nx), np.uint32)
        for one in rows:
            total += one.read(y0, min(y0 + 64, ny))
        mean[y0 : y0 + 64] = total
    mean /= len(paths)
    return mean


def _combine(paths: list[Path]) -> None:
    """Mean, variance, counts and χ² in time by the noise model, pedestals and rate factors found first."""
    from hotpix_registry.fits.pixels import open_rows
    from hotpix_registry.science.combine import combine
    from hotpix_registry.science.forks import in_order
    from hotpix_registry.science.inputs import DarkFrame, Detector, ExposureGroup
    from hotpix_registry.science.strips import are_streams, bands, read_stack, rows_at_a_time
    from hotpix_registry.science.survey import survey

    frames = tuple(DarkFrame(rows=open_rows(path), name=str(path)) for path in paths)
    detector = Detector(gain_e_per_adu=1.5, read_noise_e=10.0)
    known = survey([ExposureGroup(exptime_s=1000.0, frames=frames)], None, detector, lambda: None, _WORKERS)
    (group,), noise = known.groups, known.noise

    def reduce(stack: Any) -> None:
        least_adu = group.level_e / noise.gain_e_per_adu
        found = combine(
            stack,
            group.scale,
            noise,
            saturation_adu=group.saturation_adu,
            least_adu=least_adu,
            base_adu=group.offset_adu,
        )
        noise.variance_adu2(found.mean_adu, least_adu) / found.n_used

    def reduce_band(band: tuple[int, int], readers: Executor | None = None) -> None:
        y0, y1 = band
        rows = rows_at_a_time(y1 - y0, len(frames) * known.shape[1])
        for start in range(y0, y1, rows):
            reduce(read_stack(group.frames, 1000.0, 1.5, start, min(start + rows, y1), readers))

    every_band = bands(known.shape[0])
    if not are_streams(frames):
        list(in_order(reduce_band, every_band, _WORKERS))
        return
    with ThreadPoolExecutor(_WORKERS) as readers:
        for band in every_band:
            reduce_band(band, readers)


@work
def read_bytes_20(folder: Path) -> dict[str, Any]:
    paths = _twenty(folder)
    with measured():
        for path in paths:
            _read(path)
    return {}


def _astropy_mean_of(paths: list[Path]) -> Any:
    """Read and average as one writes it, frame after frame."""
    from astropy.io import fits

    mean = fits.getdata(paths[0]).astype(np.float32)
    for path in paths[1:]:
        mean += fits.getdata(path)
    mean /= len(paths)
    return mean


def _averaging(mean_of: Callable[[list[Path]], Any], *stacks: list[Path]) -> dict[str, Any]:
    with measured():
        for paths in stacks:
            mean_of(paths)
    return {}


@work
def read_and_average_20(folder: Path) -> dict[str, Any]:
    return _averaging(_mean_of, _twenty(folder))


@work
def read_and_average_30(folder: Path) -> dict[str, Any]:
    return _averaging(_mean_of, _ten(folder), _twenty(folder))


@work
def astropy_average_20(folder: Path) -> dict[str, Any]:
    return _averaging(_astropy_mean_of, _twenty(folder))


@work
def astropy_average_30(folder: Path) -> dict[str, Any]:
    return _averaging(_astropy_mean_of, _ten(folder), _twenty(folder))


@work
def ours_combine_20(folder: Path) -> dict[str, Any]:
    paths = _twenty(folder)
    with measured():
        _combine(paths)
    return {}


@work
def ours_combine_20_gz(folder: Path) -> dict[str, Any]:
    paths = files(folder / "frames_gz", "*.fits.gz", 20)
    with measured():
        _combine(paths)
    return {}


@work
def ours_combine_100(folder: Path) -> dict[str, Any]:
    paths = files(folder / "frames_100", "*.fits", 100)
    with measured():
        _combine(paths)
    return {}


def _ccdproc_combine(paths: list[Path], **clip: Any) -> None:
    import ccdproc

    with measured():
        ccdproc.combine(
            [str(path) for path in paths],
            method="average",
            unit="adu",
            mem_limit=1e9,
            sigma_clip=True,
            **clip,
        )


@work
def ccdproc_median_mad_20(folder: Path) -> dict[str, Any]:
    from astropy.stats import mad_std

    _ccdproc_combine(
        _twenty(folder),
        sigma_clip_low_thresh=5,
        sigma_clip_high_thresh=5,
        sigma_clip_func=np.ma.median,
        sigma_clip_dev_func=mad_std,
    )
    return {}


@work
def ccdproc_default_20(folder: Path) -> dict[str, Any]:
    _ccdproc_combine(_twenty(folder))
    return {}


@work
def ccdproc_median_mad_20_gz(folder: Path) -> dict[str, Any]:
    from astropy.stats import mad_std

    _ccdproc_combine(
        files(folder / "frames_gz", "*.fits.gz", 20),
        sigma_clip_low_thresh=5,
        sigma_clip_high_thresh=5,
        sigma_clip_func=np.ma.median,
        sigma_clip_dev_func=mad_std,
    )
    return {}


def _build(paths: list[Path], folder: Path) -> dict[str, Any]:
    from hotpix_registry import Registry

    database = folder / f"build-{os.getpid()}.sqlite"
    with Registry(str(database)) as registry:
        assert registry.ingest(paths).accepted == len(paths)
    code = (
        "import sys, time; from hotpix_registry import Registry\n"
        "from tests.benchmarks.works import Watch, peak_mb\n"
        "import hotpix_registry.registry.build, hotpix_registry.science.detection, scipy.stats\n"
        "watch, start = Watch(), time.perf_counter()\n"
        "with Registry(sys.argv[1]) as registry: built = registry.build('aspen')\n"
        "seconds, peak = time.perf_counter() - start, max(peak_mb(), watch.peak_mb)\n"
        "with Registry(sys.argv[1]) as registry: inputs = registry.show(built[0].mask_id)['inputs']\n"
        "print(seconds, built[0].flagged, len(inputs), peak)"
    )
    # in a process of its own, so that the memory of the ingest does not count
    done = subprocess.run(
        [sys.executable, "-c", code, str(database)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, flagged, inputs, peak = done.stdout.splitlines()[-1].split()
    assert int(inputs) == len(paths), f"{inputs} of {len(paths)} frames were built"
    _clock["seconds"] = float(seconds)
    database.unlink()
    return {"flagged": int(flagged), "peak_mb": float(peak)}


@work
def ours_build(folder: Path) -> dict[str, Any]:
    """The whole build of 10 + 20 catalogued frames, stored with all flags, limit and gates."""
    return _build([*_ten(folder), *_twenty(folder)], folder)


@work
def build_of_all(folder: Path) -> dict[str, Any]:
    """The whole build of all frames in a folder."""
    return _build(sorted(folder.glob("*.fits")), folder)


# --- comparing two exposures ----------------------------------------------------------------


def _two_means(n: int = 4096) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    short = rng.normal(15, 30, (n, n)).astype(np.float32)
    long = rng.normal(160, 40, (n, n)).astype(np.float32)
    return short, long


@work
def ours_compare(folder: Path) -> dict[str, Any]:
    """The line through two exposures in bands, with all variances, z-scores and departures."""
    from hotpix_registry.science.current import Charge, fit_line
    from hotpix_registry.science.strips import bands

    short, long = _two_means()
    usable = np.ones((64, 4096), bool)
    with measured():
        for y0, y1 in bands(4096):
            points = [
                Charge(exptime_s=t, charge_e=plane[y0:y1], exposures=float(n), level_e=level, usable=usable)
                for t, n, level, plane in ((90.0, 10, 1.0, short), (1000.0, 20, 10.0, long))
            ]
            fit_line(points, 100.0, 5.0)
    return {}


@work
def numpy_compare(folder: Path) -> dict[str, Any]:
    """The same numbers with whole arrays, as one would write them."""
    from hotpix_registry.science.current import Charge
    from tests.benchmarks.plain import fit_line

    short, long = _two_means()
    usable = np.ones((4096, 4096), bool)
    with measured():
        points = [
            Charge(exptime_s=t, charge_e=plane, exposures=float(n), level_e=level, usable=usable)
            for t, n, level, plane in ((90.0, 10, 1.0, short), (1000.0, 20, 10.0, long))
        ]
        fit_line(points, 100.0, 5.0)
    return {}


# --- ingest -----------------------------------------------------------------------------------


def _ingest(
    paths: list[Path], folder: Path, outcome: str = "accepted", *, twice: bool = False
) -> dict[str, Any]:
    import hotpix_registry.registry.ingest  # noqa: F401
    from hotpix_registry import Registry

    database = folder / f"ingest-{os.getpid()}.sqlite"
    with Registry(str(database)) as registry:
        if twice:
            registry.ingest(paths)
        with measured():
            report = registry.ingest(paths)
    for path in folder.glob(f"{database.name}*"):
        path.unlink()
    found = {"accepted": report.accepted, "known": report.known, "skipped": report.skipped}
    assert found[outcome] == len(paths), found
    return found


def _hash(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, "sha256").hexdigest()


@work
def ours_ingest_32mib(folder: Path) -> dict[str, Any]:
    return _ingest(files(folder / "frames", "*.fits", 30), folder)


@work
def sha256_32mib(folder: Path) -> dict[str, Any]:
    paths = files(folder / "frames", "*.fits", 30)
    with measured():
        _hash(paths)
    return {}


@work
def ours_ingest_2mib(folder: Path) -> dict[str, Any]:
    return _ingest(files(folder / "small", "*.fits", 500), folder)


@work
def sha256_2mib(folder: Path) -> dict[str, Any]:
    paths = files(folder / "small", "*.fits", 500)
    with measured():
        _hash(paths)
    return {}


@work
def ours_ingest_10000(folder: Path) -> dict[str, Any]:
    return _ingest(files(folder / "tiny", "*.fits", 10_000), folder)


@work
def ours_ingest_10000_again(folder: Path) -> dict[str, Any]:
    return _ingest(files(folder / "tiny", "*.fits", 10_000), folder, "known", twice=True)


@work
def ours_ingest_10000_lights(folder: Path) -> dict[str, Any]:
    return _ingest(files(folder / "lights", "*.fits", 10_000), folder, "skipped")


@work
def headers_of_10000_lights(folder: Path) -> dict[str, Any]:
    from hotpix_registry.fits.headers import read_header

    paths = files(folder / "lights", "*.fits", 10_000)
    with measured():
        for path in paths:
            read_header(path)
    return {}


def _headers(paths: list[Path], read: Callable[[Path], Any]) -> dict[str, Any]:
    read(paths[0])
    with measured():
        for path in paths:
            read(path)
    return {}


@work
def ours_header_gz(folder: Path) -> dict[str, Any]:
    from hotpix_registry.fits.headers import read_header

    return _headers(files(folder / "frames_gz", "*.gz", 3), read_header)


@work
def astropy_header_gz(folder: Path) -> dict[str, Any]:
    from astropy.io import fits

    return _headers(files(folder / "frames_gz", "*.gz", 3), fits.getheader)


@work
def ours_header_bz2(folder: Path) -> dict[str, Any]:
    from hotpix_registry.fits.headers import read_header

    return _headers(files(folder / "frames_bz2", "*.bz2", 2), read_header)


@work
def astropy_header_bz2(folder: Path) -> dict[str, Any]:
    from astropy.io import fits

    return _headers(files(folder / "frames_bz2", "*.bz2", 2), fits.getheader)


# --- masks ------------------------------------------------------------------------------------


def _mask_parts(share_warm: float) -> Any:
    from hotpix_registry.domain import DQ, Configuration
    from hotpix_registry.fits import maskfile

    rng = np.random.default_rng(2)
    dq = np.zeros((4096, 4096), np.uint16)
    dq.reshape(-1)[rng.choice(dq.size, 4308, replace=False)] = (DQ.BAD | DQ.HOT | DQ.WARM).value
    dq.reshape(-1)[rng.choice(dq.size, int(share_warm * dq.size), replace=False)] |= DQ.WARM.value
    return maskfile.parts(
        maskfile.MaskContent(
            dq=dq,
            camera="aspen",
            configuration=Configuration(),
            build_key="0" * 64,
            algorithm_version="1",
            recipe={"rule": "evidence+limit"},
        )
    )


@work
def ours_array_from_blob(folder: Path) -> dict[str, Any]:
    from hotpix_registry.fits.packing import pack, unpack_bad

    packed = pack(_mask_parts(0.0))
    unpack_bad(packed.encoding, packed.blob, blob_sha256=packed.blob_sha256)
    with measured():
        for _ in range(10):
            unpack_bad(packed.encoding, packed.blob, blob_sha256=packed.blob_sha256)
    return {}


@work
def astropy_array_from_file(folder: Path) -> dict[str, Any]:
    from astropy.io import fits

    path = folder / "plane.fits"
    fits.PrimaryHDU(np.zeros((4096, 4096), np.uint8)).writeto(path, overwrite=True)
    fits.getdata(path)
    with measured():
        for _ in range(10):
            fits.getdata(path).astype(bool)
    return {}


@work
def sizes_of_blobs(folder: Path) -> dict[str, Any]:
    from hotpix_registry.fits.packing import pack

    with measured():
        plain, warm = len(pack(_mask_parts(0.0)).blob), len(pack(_mask_parts(0.01)).blob)
    return {"plain": 4096 * 4096 / plain, "warm": 4096 * 4096 / warm}


# --- processes --------------------------------------------------------------------------------

_BARE = """
import datetime, os, sqlalchemy as sa, typer
app = typer.Typer()
@app.command()
def mask(camera: str = typer.Option(...), date: str = typer.Option(...)):
    engine = sa.create_engine("sqlite:///" + os.environ["HOTPIX_DATABASE_URL"])
    def table(name, columns):
        return sa.table(name, *map(sa.column, columns.split()))
    n = table("camera_names", "camera_id name closed_tx").c
    s = table("series", "id camera_id").c
    a = table("assignments", "series_id mask_id valid_from_us valid_to_us closed_tx").c
    m = table("masks", "id sha256").c
    night = datetime.datetime.fromisoformat(date + "T12:00:00+00:00").timestamp() * 1e6
    last = (
        sa.select(a.valid_to_us, m.sha256)
        .join_from(n.name.table, s.id.table, s.camera_id == n.camera_id)
        .join(a.mask_id.table, a.series_id == s.id)
        .join(m.id.table, m.id == a.mask_id)
        .where(n.name == camera, n.closed_tx.is_(None), a.closed_tx.is_(None), a.valid_from_us <= night)
        .order_by(a.valid_from_us.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        found = connection.execute(last).first()
    if found is None or (found.valid_to_us is not None and found.valid_to_us <= night):
        raise SystemExit(3)
    print(os.path.join(os.environ["HOTPIX_CACHE_DIR"], found.sha256[:2], found.sha256 + ".fits"))
app()
"""


def _registry_with_a_mask(folder: Path) -> dict[str, str]:
    from hotpix_registry import Registry

    database = folder / "served.sqlite"
    environment = {**os.environ, "HOTPIX_CACHE_DIR": str(folder / "cache")}
    environment["HOTPIX_DATABASE_URL"] = str(database)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if not database.exists():
        shutil.copytree(folder / "night", folder / "served", dirs_exist_ok=True)
        with Registry(str(database)) as registry:
            registry.ingest(folder / "served")
            registry.build("aspen")
    return environment


def _process(folder: Path, command: list[str]) -> dict[str, Any]:
    environment = _registry_with_a_mask(folder)
    seconds = []
    for _ in range(6):  # the first one compiles and fills the cache
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    _clock["seconds"] = float(np.median(seconds[1:]))
    return {"out": done.stdout, "peak_mb": None}


@work
def ours_mask_process(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "hotpix_registry", "mask", "--camera", "aspen", "--date", "2018-08-22"]
    return _process(folder, command)


@work
def bare_mask_process(folder: Path) -> dict[str, Any]:
    script = folder / "bare.py"
    script.write_text(_BARE)
    return _process(folder, [sys.executable, str(script), "--camera", "aspen", "--date", "2018-08-22"])


@work
def ours_help_process(folder: Path) -> dict[str, Any]:
    return _process(folder, [sys.executable, "-m", "hotpix_registry", "--help"])


@work
def bare_python_process(folder: Path) -> dict[str, Any]:
    return _process(folder, [sys.executable, "-c", "pass"])


# --- preparing --------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Write the frames that are worked on; what is there already stays."""
    import datetime

    from astropy.io import fits

    from hotpix_registry.simulate import SimulatedCamera, write_night

    start = datetime.datetime(2018, 8, 23, 3, tzinfo=datetime.UTC)
    if not (folder / "frames").exists():
        camera = SimulatedCamera.create((4096, 4096), 1)
        write_night(folder / "frames.part", camera, start=start, biases=0, darks={90.0: 10, 1000.0: 20})
        (folder / "frames.part").rename(folder / "frames")
    if not (folder / "night").exists():
        camera = SimulatedCamera.create((512, 512), 1)
        write_night(folder / "night.part", camera, start=start, biases=3, darks={90.0: 4, 1000.0: 4})
        (folder / "night.part").rename(folder / "night")
    long = _twenty(folder)
    for name, opener, n in (("gz", gzip, 20), ("bz2", bz2, 2)):
        target = folder / f"frames_{name}"
        if target.exists():
            continue
        target.mkdir()
        for path in long[:n]:
            level = {"compresslevel": 1}
            with opener.open(target / f"{path.name}.{name}", "wb", **level) as stream:  # type: ignore[attr-defined]
                stream.write(path.read_bytes())
    hundred = folder / "frames_100"
    hundred.mkdir(exist_ok=True)
    for i in range(100):
        link = hundred / f"{i:03d}.fits"
        if not link.exists():
            link.symlink_to(long[i % 20])
    rng = np.random.default_rng(1)
    for name, n, side, kind in (
        ("small", 500, 1024, "DARK"),
        ("tiny", 10_000, 32, "DARK"),
        ("lights", 10_000, 32, "LIGHT"),
    ):
        target = folder / name
        if target.exists():
            continue
        target.mkdir()
        for i in range(n):
            hdu = fits.PrimaryHDU(rng.integers(900, 1100, (side, side)).astype(np.uint16))
            moment = start.replace(tzinfo=None) + datetime.timedelta(minutes=i)
            hdu.header.update(
                {
                    "INSTRUME": "aspen",
                    "IMAGETYP": kind,
                    "EXPTIME": 30.0,
                    "DATE-OBS": moment.isoformat(),
                    "SET-TEMP": -20.0,
                    "CCD-TEMP": -20.0,
                    "XBINNING": 1,
                    "YBINNING": 1,
                }
            )
            hdu.header.update({f"KEY{k:03d}": k for k in range(60)})
            hdu.writeto(target / f"{kind.lower()}-{i:05d}.fits")


class Watch(threading.Thread):
    """Looks every few milliseconds how much memory this process and its forks take together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mb = 0.0
        if _WATCHED in os.environ:
            self.start()

    def run(self) -> None:
        this = psutil.Process()
        while True:
            together = this.memory_info().rss
            for fork in this.children(recursive=True):
                with suppress(psutil.Error):
                    together += fork.memory_full_info().uss  # what it shares with this process counts once
            self.peak_mb = max(self.peak_mb, together / (1 << 20))
            time.sleep(0.005)


def peak_mb() -> float:
    """The most memory of this process; what `getrusage` tells begins with the peak of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if name == "prepare":
        prepare(folder)
        return
    watch = Watch()
    found = WORKS[name](folder)
    peak = max(peak_mb(), watch.peak_mb)
    print(json.dumps({"seconds": _clock["seconds"], "peak_mb": peak} | found))


if __name__ == "__main__":
    main()
