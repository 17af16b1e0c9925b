"""Items that are told of are kept once each, in their order, and outlive a close."""

import pytest
from store_world import FORM, event

from lifelora.errors import DataError
from lifelora.serving.store import Store


def test_items_are_kept_once_and_in_order(url: str):
    with Store.open(url, FORM) as store:
        assert store.add_items([{"item": "a", "title": "A \u00fc", "genre": ["x", "y"]}, {"item": "b"}]) == [True, True]
        assert store.add_items([{"item": "c"}, {"item": "a", "title": "Another"}, {"item": "c"}]) == [True, False, False]
        assert store.add_items([]) == []
        store.append([event("a", "a", 1)])
        store.forget("a")
    with Store.open(url, FORM) as store:
        assert [(one.item, one.texts) for one in store.items()] == [
            ("a", {"title": "A \u00fc", "genre": ["x", "y"]}),
            ("b", {}),
            ("c", {}),
        ]
        first, *rest = store.items()
        assert list(store.items(first.seq)) == rest
        many = [{"item": f"item {number}"} for number in range(2500)]
        assert all(store.add_items(many))
        assert [one.item for one in store.items(rest[-1].seq)] == [one["item"] for one in many]


def test_an_item_without_an_id_keeps_none_of_its_bulk(store: Store):
    for wrong in ("", "\0", "x" * 1001):
        with pytest.raises(DataError) as refused:
            store.add_items([{"item": "good"}, {"item": wrong}])
        assert refused.value.problems[0].file == "items"
    assert list(store.items()) == []
