"""When a program's process gives free memory back: where the tensors to come cannot use it."""

from __future__ import annotations

from selfdev_core.sandbox.heap import Heap

M = 1 << 20  # entries


def test_free_memory_is_given_back_before_a_larger_tensor_and_after_one_that_stands_out() -> None:
    heap = Heap()
    told: list[str] = []
    heap._trim = lambda _: told.append("given back")

    def passes(entries: int) -> list[str]:
        told.clear()
        heap.expect(entries)
        told.append("made")
        heap.spent()
        return [*told]

    before, after = ["given back", "made"], ["made", "given back"]
    assert passes(64 * M) == after  # embeddings, the first of all
    assert [passes(4 * M) for _ in range(20)] == [["made"]] * 20
    assert passes(11 * M) == [*before, "given back"]  # the first matrix of an MLP
    assert [passes(size) for size in (11 * M, 4 * M, 11 * M, 2048)] == [["made"]] * 4
    assert passes(12 * M) == before
    assert passes(64 * M) == [*before, "given back"]
    assert passes(M) == ["made"]
