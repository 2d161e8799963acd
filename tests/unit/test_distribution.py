"""The sdist and the wheel are complete: what is built from them runs, and has what an administrator needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
# What the wheel has, by the end of its path in the repository.
SHIPPED = [name for name in TRACKED if name.startswith(("contrib/", "man/")) and not name.startswith("contrib/debian/")]
TIMERS = sorted(Path(name).stem for name in SHIPPED if name.endswith(".timer"))
FOR_DEVELOPERS = {"contrib/completion/make", "man/make", "man/site", "man/smilla.toml.5.in"}


def _build(kind: str, source: Path, out: Path) -> Path:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "-q",
        "--no-isolation",
        f"--{kind}",
        "--outdir",
        out,
        source,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.iterdir())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist, made from what is tracked."""
    place = tmp_path_factory.mktemp("sdist")
    for name in TRACKED:
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (place / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "tree" / name).write_bytes((ROOT / name).read_bytes())
    (place / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", _build("sdist", place / "tree", place / "out"), "-C", place / "unpacked"], check=True)
    return next((place / "unpacked").iterdir())


@pytest.fixture(scope="module")
def installed(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel that was made from the sdist; what it depends on is this environment's."""
    place = tmp_path_factory.mktemp("wheel")
    wheel = _build("wheel", sdist, place / "out")
    venv.create(place / "venv", symlinks=True, with_pip=True)
    python = place / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel], check=True)
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    (Path(where.stdout.strip()) / "others.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    return place / "venv"


def test_the_sdist_has_the_manual_the_sample_the_unit_and_the_licence(sdist: Path) -> None:
    lost = [name for name in SHIPPED if name not in FOR_DEVELOPERS and not (sdist / name).is_file()]
    assert lost == []
    assert (sdist / "LICENSE").is_file()
    assert (sdist / "smilla/py.typed").is_file()


def test_the_wheel_has_the_manual_the_sample_and_the_unit(installed: Path) -> None:
    found = {path.name for path in (installed / "share").rglob("*") if path.is_file()}
    assert {Path(name).name for name in SHIPPED if name not in FOR_DEVELOPERS} - found == set()
    assert (installed / "share/man/man8/smilla.8").is_file()
    assert (installed / "share/smilla/systemd/smilla.service").is_file()


def test_the_wheel_has_every_file_of_the_package(installed: Path) -> None:
    (modules,) = installed.glob("lib/python3*/site-packages")
    lost = [name for name in TRACKED if name.startswith("smilla/") and not (modules / name).is_file()]
    assert lost == []


def test_the_command_of_the_wheel_runs(installed: Path) -> None:
    python, command = installed / "bin/python", installed / "bin/smilla"
    where = subprocess.run(
        [python, "-c", "import smilla; print(smilla.__file__)"], check=True, capture_output=True, text=True, cwd="/"
    )
    assert Path(where.stdout.strip()).is_relative_to(installed)
    done = subprocess.run([command, "--version"], check=True, capture_output=True, text=True, cwd="/")
    assert done.stdout.startswith("smilla ")
    sample = subprocess.run([command, "config", "sample"], check=True, capture_output=True, text=True, cwd="/")
    assert sample.stdout == (installed / "share/smilla/smilla.toml").read_text("utf-8")


def test_every_manual_page_is_in_the_wheel_and_in_the_debian_package() -> None:
    """Both take pages by the section in which they stand."""
    pages = [name for name in TRACKED if name.startswith("man/") and name not in FOR_DEVELOPERS]
    for section in {name.rpartition(".")[2] for name in pages}:
        assert f"share/man/man{section} = man/*.{section}\n" in (ROOT / "setup.cfg").read_text("utf-8")
        (taken,) = re.findall(r"dh_installman man/\*\.\[(\d+)\]", (ROOT / "contrib/debian/rules").read_text("utf-8"))
        assert section in taken


@pytest.mark.skipif(shutil.which("dh_installsystemd") is None, reason="debhelper is not installed")
def test_the_debian_package_has_the_timers_and_enables_none(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "contrib", tmp_path / "contrib")
    shutil.copytree(ROOT / "contrib/debian", tmp_path / "debian")
    changelog = "smilla (1.0-1) stable; urgency=medium\n\n  * x\n\n -- A <a@b.test>  Sun, 29 Nov 2026 00:00:00 +0000\n"
    (tmp_path / "debian/changelog").write_text(changelog, "utf-8")
    targets = ["execute_before_dh_installsystemd", "override_dh_installsystemd"]
    made = subprocess.run(
        ["make", "-f", "debian/rules", *targets], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    units = {path.name: path for path in (tmp_path / "debian/smilla").rglob("systemd/system/*")}
    of_timers = {f"{name}.{kind}" for name in TIMERS for kind in ("timer", "service")}
    assert set(units) == {"smilla.service", "smilla-watch-mx.service", *of_timers}
    for name in ("smilla", "smilla-watch-mx", *TIMERS):
        assert "ExecStart=/usr/bin/smilla " in units[f"{name}.service"].read_text("utf-8")
    written = [
        *(tmp_path / "debian").glob(".debhelper/generated/smilla/*"),
        *(tmp_path / "debian").glob("*.*.debhelper"),
    ]
    scripts = "".join(path.read_text("utf-8") for path in written)
    for name in TIMERS:
        assert f"if deb-systemd-helper debian-installed '{name}.timer'" in scripts  # enabled only if it was before
        assert f"deb-systemd-helper purge '{name}.timer'" in scripts
        for line in (line for line in scripts.splitlines() if "deb-systemd-invoke" in line and name in line):
            assert " stop " in line
    assert "upgrade ]" not in scripts  # a timer that was enabled goes on
