"""Union-find: links hold through others, in any order, and nothing else is joined."""

from __future__ import annotations

import numpy as np

from melssl.audit.groups import chains, components, joined


def test_what_is_linked_through_others_is_one() -> None:
    found = components(7, [(5, 3), (1, 5), (6, 2)])
    assert found.tolist() == [0, 1, 2, 1, 4, 1, 2]


def test_nothing_linked_leaves_everything_alone() -> None:
    assert components(3, []).tolist() == [0, 1, 2]
    assert components(0, []).tolist() == []


def test_components_are_those_of_a_search_whatever_the_order_of_the_links() -> None:
    rng = np.random.default_rng(3)
    pairs = [(int(a), int(b)) for a, b in rng.integers(0, 60, (40, 2))]
    reach = np.eye(60, dtype=bool)
    for a, b in pairs:
        reach[a, b] = reach[b, a] = True
    for _ in range(6):  # squaring six times follows 64 links
        reach = reach @ reach
    expected = reach.argmax(axis=1).tolist()
    assert components(60, pairs).tolist() == expected
    assert components(60, [(b, a) for a, b in reversed(pairs)]).tolist() == expected


def test_a_long_chain_needs_no_recursion() -> None:
    n = 50_000
    assert (components(n, zip(range(n - 1, 0, -1), range(n - 2, -1, -1), strict=True)) == 0).all()


def test_chains_link_every_row_of_a_key_and_empty_is_no_key() -> None:
    keys = np.array(["a", "", "b", "a", "", "a"], dtype=object)
    assert chains(keys) == [(0, 3), (3, 5)]


def test_a_joined_name_is_sorted_and_of_many_counts_the_rest() -> None:
    assert joined(["P9", "P10"]) == "P10+P9"
    assert joined([f"P{i}" for i in range(9)], shown=3) == "P0+P1+P2+6 more"
