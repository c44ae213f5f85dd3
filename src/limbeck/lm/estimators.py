"""Gradient estimators of the divergence between whole sequences, from sequences that the student wrote.

`KL(P_student‖P_teacher) = E_y sum_t r_t`, `r_t = log q(y_t) - log p(y_t)`. Its gradient needs samples of the student;
the estimators here differ in how much of the sum they do exactly. Each returns values per token whose sum,
differentiated by autograd, is the estimate.
(Mingyang Song, Mao Zheng, A Survey of On-Policy Distillation for Large Language Models, 2026, arXiv 2604.00626, section
on gradient estimation.)
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from limbeck.distill.divergences import reverse_value
from limbeck.errors import ConfigError

Estimator = Literal["reinforce", "to_go", "sampled", "minillm", "full", "k1", "k2", "k3"]


def future_returns(reward: Tensor, mask: Tensor, *, discount: float = 1.0, normalise: bool = False) -> Tensor:
    """Discounted sum of what a token and its followers earn.

    `G_t = sum_{s >= t} discount^(s - t) reward_s`, divided by `sum_{s >= t} discount^(s - t)` if normalised

    Args:
        reward: [B, T].
        mask: tokens that count, bool [B, T].
        discount: 0 for the token alone, 1 for all that follows.
        normalise: divide by the (discounted) number of tokens that are left.

    Example:
        >>> future_returns(torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool), discount=0.5)
        tensor([[3., 4., 4.]])

    Source: Yuxian Gu, Li Dong, Furu Wei, Minlie Huang, MiniLLM: Knowledge Distillation of Large Language Models (2023),
        arXiv 2306.08543; without the factor discount^t that a common implementation carries.
    """
    counted = torch.stack([reward * mask, mask.to(reward.dtype)])
    total, sums = torch.zeros_like(counted[..., 0]), []
    for t in reversed(range(reward.shape[1])):
        total = counted[..., t] + discount * total
        sums.append(total)
    returns, lengths = torch.stack(sums[::-1], dim=-1)
    return torch.where(mask, returns / lengths.clamp(min=1e-30), 0.0) if normalise else returns * mask


def sequence_kl(
    log_q: Tensor,
    log_p: Tensor,
    tokens: Tensor,
    mask: Tensor,
    *,
    estimator: Estimator = "full",
    discount: float = 0.0,
    normalise: bool = False,
    baseline: Tensor | float = 0.0,
) -> Tensor:
    """Values [B, T] whose summed gradient estimates that of `KL(P_student‖P_teacher)`, with the samples held fixed.

    | estimator | values | its mean |
    |---|---|---|
    | `reinforce` | (sum of all r - baseline) log q(y_t) | the gradient |
    | `to_go` | (sum of r from t on - baseline) log q(y_t) | the gradient, less variance |
    | `minillm` | KL(q_t‖p_t), exact, + (sum of r after t) log q(y_t) | the gradient, less variance |
    | `sampled` | (discounted sum of r from t on - baseline) log q(y_t) | with discount 0 the semi-gradient |
    | `k2` | r^2 / 2 | the semi-gradient, as `sampled` |
    | `full` | KL(q_t‖p_t), exact | the semi-gradient, least variance |
    | `k3` | exp(-r) - 1 + r | that of the *forward* KL |
    | `k1` | r | zero: it teaches nothing, and warns |

    The semi-gradient holds the prefixes fixed: myopic, but with the same optimum where the student can represent the
    teacher.

    Args:
        log_q: log-probabilities of the student, [B, T, V].
        log_p: of the teacher, [B, T, V]; detached.
        tokens: what the student wrote, [B, T].
        mask: tokens that count, bool [B, T].
        estimator: one of the table.
        discount, normalise: of the future, for `sampled` and `minillm` (see `future_returns`).
        baseline: any function of the prefix, [B, T] or a number: it changes the variance, not the mean.

    Raises:
        ConfigError: an unknown estimator.
    """
    if estimator not in get_args(Estimator):
        raise ConfigError(f'unknown estimator "{estimator}": choose one of {", ".join(get_args(Estimator))}')
    log_p = log_p.detach()
    if estimator == "full":
        return reverse_value(log_p, log_q) * mask
    chosen, theirs = (one.gather(-1, tokens[..., None])[..., 0] for one in (log_q, log_p))
    r = torch.where(mask, chosen - theirs, 0.0)
    if estimator == "k1":
        warnings.warn("k1 as a loss has a gradient of mean zero: use full, sampled or k2", stacklevel=2)
        return r
    if estimator in ("k2", "k3"):
        return r.square() / 2 if estimator == "k2" else (-r).exp() - 1 + r
    reward, ahead = r.detach(), torch.zeros_like(r)
    if estimator == "reinforce":
        gain = reward.sum(1, keepdim=True).expand_as(reward)
    elif estimator == "to_go":
        gain = future_returns(reward, mask)
    elif estimator == "sampled":
        gain = future_returns(reward, mask, discount=discount, normalise=normalise)
    else:
        after = torch.cat([reward[:, 1:], torch.zeros_like(reward[:, :1])], dim=1)
        later = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
        gain = future_returns(after, later, normalise=normalise)
        ahead = reverse_value(log_p, log_q)
    return (ahead + (gain - baseline) * chosen) * mask
