import csv

import numpy as np
import pytest

from analysis.spectra import azimuthal_average, collect, log_spectrum, write_spectra
from prediction.trained import Video


def test_rings_average_what_lies_on_them():
    power = np.zeros((16, 16))
    power[8, 8 + 3] = power[8 - 3, 8] = 6.0
    rings = azimuthal_average(power)
    y, x = np.mgrid[-8:8, -8:8]
    on_ring = np.rint(np.hypot(x, y)) == 3
    assert len(rings) == 9
    assert rings[3] == pytest.approx(12 / on_ring.sum())
    assert rings[[0, 1, 2, 4, 5, 6, 7, 8]].tolist() == [0] * 8


def test_flat_power_gives_a_flat_average_also_for_oblong_images():
    assert azimuthal_average(np.ones((20, 33))) == pytest.approx(1)


@pytest.mark.parametrize("cycles", [5, 12, 25])
def test_a_wave_shows_at_its_frequency(cycles):
    x = np.arange(64)
    wave = 128 + 60 * np.cos(2 * np.pi * cycles * x / 64)
    image = np.broadcast_to(wave[None, :, None], (64, 64, 3)).astype(np.uint8)
    assert np.argmax(log_spectrum(image)) == cycles


def test_brightness_of_the_whole_does_not_count():
    image = np.random.default_rng(0).integers(50, 150, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_allclose(log_spectrum(image), log_spectrum(image + 40), atol=1e-6)


def test_videos_are_the_unit_and_the_table_holds_them(tmp_path):
    rng = np.random.default_rng(0)
    source = [
        Video(str(n), n % 2, n % 2, np.arange(6), rng.integers(0, 256, (6, 3, 32, 32)).astype(np.uint8))
        for n in range(5)
    ]
    found = collect(source, 3)
    assert found["real"].shape == (3, 17)
    assert found["fake"].shape == (2, 17)
    frames = source[1].image[[0, 2, 4]].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found["fake"][0], np.mean([log_spectrum(f) for f in frames], axis=0))
    write_spectra({"X": found}, tmp_path)
    with open(tmp_path / "spectra.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == "real"]
    assert [float(row["log10_power"]) for row in rows] == pytest.approx(found["real"].mean(0), rel=1e-4)
    assert float(rows[-1]["frequency"]) == 0.5
    assert (tmp_path / "spectra.pdf").stat().st_size > 1000
