"""Adam that moves only the rows that a step touches comes where Adam comes."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from sparsevec.training.row_adam import RowAdam

ROWS, BETAS = 50, (0.9, 0.99)


def _trained(steps: int, drawn: int, sparse: bool, optimizer: torch.optim.Optimizer, table: nn.Parameter) -> None:
    generator = torch.Generator().manual_seed(0)
    aims = torch.randn(ROWS, 3, generator=generator)
    for _ in range(steps):
        rows = torch.randperm(ROWS, generator=generator)[:drawn]
        if isinstance(optimizer, RowAdam):
            optimizer.catch_up(table, rows)
        optimizer.zero_grad()
        found = nn.functional.embedding(rows, table, sparse=sparse)
        (found - aims[rows]).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if isinstance(optimizer, RowAdam):
        optimizer.catch_up(table)


def _both(steps: int, drawn: int) -> tuple[torch.Tensor, torch.Tensor]:
    tables = [nn.Parameter(torch.zeros(ROWS, 3)) for _ in range(2)]
    settings = {"lr": 0.01, "betas": BETAS}
    _trained(steps, drawn, False, torch.optim.Adam(tables[0:1], **settings), tables[0])  # type: ignore[arg-type]
    _trained(steps, drawn, True, RowAdam(tables[1:2], **settings), tables[1])  # type: ignore[arg-type]
    return tables[0].detach(), tables[1].detach()


def test_where_every_step_touches_every_row_it_is_adam() -> None:
    adam, ours = _both(steps=100, drawn=ROWS)
    torch.testing.assert_close(ours, adam, rtol=1e-4, atol=1e-5)


def test_rows_that_are_seldom_touched_go_as_far_as_adam_moves_them_in_all_steps() -> None:
    adam, ours = _both(steps=400, drawn=3)
    assert float((ours - adam).norm() / adam.norm()) < 0.02, "what differs is the correction in the first few steps"


def test_a_row_moves_only_when_it_is_asked_for() -> None:
    table = nn.Parameter(torch.zeros(ROWS, 3))
    optimizer = RowAdam([table], lr=0.01, betas=BETAS)
    _step(optimizer, table, torch.tensor([0, 1]))
    before = table.detach().clone()
    _step(optimizer, table, torch.tensor([0]))
    assert torch.equal(table[1], before[1])
    optimizer.catch_up(table, torch.tensor([1]))
    assert (table[1] < before[1]).all(), "by what is left of the first step's momentum"


def _step(optimizer: RowAdam, table: nn.Parameter, rows: torch.Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.embedding(rows, table, sparse=True).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def test_its_state_comes_back_whole() -> None:
    tables = [nn.Parameter(torch.zeros(ROWS, 3)) for _ in range(2)]
    first, second = (RowAdam([table], lr=0.01, betas=BETAS) for table in tables)
    _trained(20, 5, True, first, tables[0])
    tables[1].data.copy_(tables[0].data)
    second.load_state_dict(deepcopy(first.state_dict()))
    for optimizer, table in zip((first, second), tables, strict=True):
        _trained(20, 5, True, optimizer, table)
    assert torch.equal(*tables)


def test_parameters_with_dense_gradients_are_moved_as_by_adam() -> None:
    table, bias = nn.Parameter(torch.zeros(ROWS, 3)), nn.Parameter(torch.zeros(3))
    alone = nn.Parameter(torch.zeros(3))
    both, adam = RowAdam([table, bias], lr=0.01, betas=BETAS), torch.optim.Adam([alone], lr=0.01, betas=BETAS)
    for number in range(10):
        both.zero_grad()
        gradient = torch.full((3,), float(number - 3))
        bias.grad, alone.grad = gradient, gradient.clone()
        nn.functional.embedding(torch.tensor([number]), table, sparse=True).sum().backward()  # type: ignore[no-untyped-call]
        both.step()
        adam.step()
    assert torch.equal(bias, alone)
