"""Adam for a table of which a step touches few rows."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from sparsevec.training.row_adam import RowAdam

ROWS, BETAS = 50, (0.9, 0.99)
AIMS = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1))


def _optimizer(*parameters: nn.Parameter) -> RowAdam:
    return RowAdam(parameters, lr=0.01, betas=BETAS)


def _step(optimizer: torch.optim.Optimizer, table: nn.Parameter, rows: torch.Tensor, *, sparse: bool = True) -> None:
    optimizer.zero_grad()
    found = nn.functional.embedding(rows, table, sparse=sparse)
    (found - AIMS[rows]).square().sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _drawn(steps: int, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(ROWS, generator=generator)[:count] for _ in range(steps)]


def test_where_every_step_touches_every_row_it_is_adam() -> None:
    tables = [nn.Parameter(torch.zeros(ROWS, 3)) for _ in range(2)]
    adam, ours = torch.optim.Adam(tables[:1], lr=0.01, betas=BETAS), _optimizer(tables[1])
    for rows in _drawn(100, ROWS):
        _step(adam, tables[0], rows, sparse=False)
        _step(ours, tables[1], rows)
    torch.testing.assert_close(*tables, rtol=1e-4, atol=1e-5)


def test_a_row_comes_as_far_in_a_large_table_as_alone_by_the_same_steps() -> None:
    table, alone = nn.Parameter(torch.zeros(ROWS, 3)), nn.Parameter(torch.zeros(ROWS, 3))
    all_rows, one = _optimizer(table), _optimizer(alone)
    for rows in _drawn(200, 4):
        _step(all_rows, table, rows)
        if 7 in rows:
            _step(one, alone, torch.tensor([7]))
    assert torch.equal(table[7], alone[7])
    assert not torch.equal(table[7], torch.zeros(3))


def test_rows_that_a_step_does_not_touch_stay() -> None:
    table = nn.Parameter(torch.zeros(ROWS, 3))
    optimizer = _optimizer(table)
    _step(optimizer, table, torch.tensor([0, 1]))
    before = table.detach().clone()
    _step(optimizer, table, torch.tensor([0]))
    assert torch.equal(table[1:], before[1:])
    assert not torch.equal(table[0], before[0])


def test_its_state_comes_back_whole() -> None:
    tables = [nn.Parameter(torch.zeros(ROWS, 3)) for _ in range(2)]
    first, second = map(_optimizer, tables)
    for rows in _drawn(20, 5):
        _step(first, tables[0], rows)
    tables[1].data.copy_(tables[0].data)
    second.load_state_dict(deepcopy(first.state_dict()))
    for rows in _drawn(20, 5):
        _step(first, tables[0], rows)
        _step(second, tables[1], rows)
    assert torch.equal(*tables)


def test_parameters_with_dense_gradients_are_moved_as_by_adam() -> None:
    table, bias, alone = nn.Parameter(torch.zeros(ROWS, 3)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    both, adam = _optimizer(table, bias), torch.optim.Adam([alone], lr=0.01, betas=BETAS)
    for number in range(10):
        both.zero_grad()
        bias.grad = torch.full((3,), float(number - 3))
        alone.grad = bias.grad.clone()
        nn.functional.embedding(torch.tensor([number]), table, sparse=True).sum().backward()  # type: ignore[no-untyped-call]
        both.step()
        adam.step()
    assert torch.equal(bias, alone)
