"""What `make test-slow` leaves out of many cases alike comes within four commits."""

from conftest import drawn


def test_four_seeds_in_a_row_draw_every_test_once():
    names = [f"tests/slurm/test_faults.py::test_{number}" for number in range(300)]
    for first in (0, 7):
        parts = [{name for name in names if drawn(name, seed)} for seed in range(first, first + 4)]
        assert set.union(*parts) == set(names) and sum(map(len, parts)) == len(names)
        assert all(50 <= len(part) <= 100 for part in parts)
