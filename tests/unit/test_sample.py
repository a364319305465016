"""What `make test-slow` leaves out of many cases alike comes within four commits, or as many as it says."""

from conftest import drawn


def test_seeds_in_a_row_draw_every_test_once():
    names = [f"tests/slurm/test_faults.py::test_{number}" for number in range(300)]
    for first, of in ((0, 4), (7, 4), (3, 10)):
        parts = [{name for name in names if drawn(name, seed, of)} for seed in range(first, first + of)]
        assert set.union(*parts) == set(names) and sum(map(len, parts)) == len(names)
        assert all(abs(len(part) - 300 / of) < 25 for part in parts)
