"""How much memory is left is what the system and the container say."""

import pytest

from nnmedseg.inference.folders import memory

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Files as Linux has them: 8 GiB available, no container."""
    facts = tmp_path / "meminfo"
    facts.write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    monkeypatch.setattr(memory, "MEMORY_FACTS", facts)
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    return tmp_path


def limit(system, most, used, files):
    (system / "memory.max").write_text(f"{most}\n")
    (system / "memory.current").write_text(f"{used}\n")
    (system / "memory.stat").write_text(f"anon 1\ninactive_file {files}\n")


def test_without_a_container_it_is_what_the_system_can_free(system):
    assert memory.available_memory() == 8 * GIB


def test_a_container_leaves_less(system):
    limit(system, 4 * GIB, GIB, 0)
    assert memory.available_memory() == 3 * GIB


def test_files_that_were_read_do_not_count_as_used(system):
    limit(system, 4 * GIB, 3 * GIB, 2 * GIB)
    assert memory.available_memory() == 3 * GIB


def test_a_container_without_a_limit_leaves_all(system):
    limit(system, "max", GIB, 0)
    assert memory.available_memory() == 8 * GIB


def test_where_no_one_tells_nothing_is_known(system):
    (system / "meminfo").unlink()
    assert memory.available_memory() is None
