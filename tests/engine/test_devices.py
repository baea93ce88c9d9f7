import torch

from rcnn_tutorial.engine.devices import constant, grouped, mapped


def test_a_constant_has_the_type_that_is_named():
    like = torch.zeros(2, dtype=torch.float64)
    assert constant([1, 2], like).dtype == torch.float64
    whole = constant([[1, 2], [3, 4]], like, torch.int64)
    assert whole.dtype == torch.int64 and whole.tolist() == [[1, 2], [3, 4]]


def test_every_tensor_of_a_nest_is_changed_and_nothing_else():
    nest = {"a": [torch.ones(1), (torch.ones(2), "text")], "b": 3, "c": None}
    changed = mapped(nest, lambda tensor: tensor + 1)
    assert changed["a"][0].tolist() == [2] and changed["a"][1][0].tolist() == [2, 2]
    assert isinstance(changed["a"][1], tuple) and changed["a"][1][1] == "text"
    assert changed["b"] == 3 and changed["c"] is None and nest["a"][0].tolist() == [1]


def test_rows_are_sorted_by_group_and_stay_in_order_within_each():
    order, counts = grouped(torch.tensor([2, 0, 2, 0, 3]), 4)
    assert order.tolist() == [1, 3, 0, 2, 4] and counts.tolist() == [2, 0, 2, 1]
