"""When a program's process gives free memory back: where the tensors to come do not need it."""

from __future__ import annotations

from selfdev_core.sandbox.heap import Heap

M = 1 << 20  # entries


def test_memory_that_smaller_tensors_do_not_need_is_given_back_once() -> None:
    heap = Heap()
    told: list[str] = []
    heap._trim = lambda _: told.append("given back")

    def comes(entries: int) -> list[str]:
        told.clear()
        heap.expect(entries)
        return [*told]

    assert comes(64 * M) == comes(64 * M) == []  # embeddings and head
    assert comes(11 * M) == ["given back"]
    assert [comes(size) for size in (11 * M, 11 * M, 6 * M, 6 * M)] == [[]] * 4
    assert comes(4 * M) == ["given back"]
    assert [comes(size) for size in (4 * M, 2 * M)] == [[]] * 2
    assert comes(2048) == ["given back"]
    assert [comes(size) for size in (2048, 512)] == [[]] * 2


def test_small_models_are_spared_the_call() -> None:
    heap = Heap()
    heap._trim = lambda _: told.append("given back")
    told: list[str] = []
    for entries in (M, 4096, 16):
        heap.expect(entries)
    assert not told
