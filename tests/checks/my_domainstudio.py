"""My DomainStudio: a worked solution of chapters 00 to 06, which stands on its own. No reader is shown this file."""

import copy

import torch
import torch.nn.functional as F


def nearest(samples, images):
    return torch.cdist(samples.flatten(1), images.flatten(1)).argmin(1)          # (N,)


def q_sample(x_0, t, eps, alphas_cumprod):
    a = alphas_cumprod[t].view(-1, 1, 1, 1)                                      # (N,1,1,1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps


def predict_x0(x_t, t, eps, alphas_cumprod):
    a = alphas_cumprod[t].view(-1, 1, 1, 1)
    return (x_t - (1 - a).sqrt() * eps) / a.sqrt()


def simple_loss(model, x_0, t, eps, alphas_cumprod):
    x_t = q_sample(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t).sample - eps).square().mean()


def ema_update(average, new, step, max_decay, power):
    decay = min(max_decay, 1 - (1 + step) ** -power)
    return decay * average + (1 - decay) * new


def train_loop(model, batches, loss, lr, max_decay=0.99, power=0.75):
    model = copy.deepcopy(model)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.0)
    for step, (x_0, t, eps) in enumerate(batches):
        optimizer.zero_grad()
        loss(model, x_0, t, eps).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for slow, new in zip(average.parameters(), model.parameters()):
            slow.data = ema_update(slow.data, new.data, step, max_decay, power)
    return average


def abar(t, alphas_cumprod):
    return alphas_cumprod[t] if t >= 0 else torch.ones(())


def ddim_step(x_t, eps, t, t_prev, alphas_cumprod):
    now, then = abar(t, alphas_cumprod), abar(t_prev, alphas_cumprod)
    x_0 = (x_t - (1 - now).sqrt() * eps) / now.sqrt()
    return then.sqrt() * x_0 + (1 - then).sqrt() * eps


def ddpm_step(x_t, eps, t, t_prev, z, alphas_cumprod):
    now, then = abar(t, alphas_cumprod), abar(t_prev, alphas_cumprod)
    beta = 1 - now / then
    x_0 = (x_t - (1 - now).sqrt() * eps) / now.sqrt()
    mean = (then.sqrt() * beta * x_0 + (1 - beta).sqrt() * (1 - then) * x_t) / (1 - now)
    return mean + (beta * (1 - then) / (1 - now)).sqrt() * z


def copy_rate(nearest_samples, nearest_real, percentile=5):
    threshold = torch.quantile(nearest_real, percentile / 100)
    return float((nearest_samples < threshold).float().mean())


def intra_lpips_by_hand(distances_to_targets, distances_within):
    group, means = distances_to_targets.argmin(1), []
    for k in range(distances_to_targets.shape[1]):
        inside = distances_within[group == k][:, group == k]                     # (n,n), zeros on the diagonal
        if len(inside) > 1:
            means.append(inside.sum() / (len(inside) * (len(inside) - 1)))
    return float(torch.stack(means).mean())


def pairwise_log_probs(x):
    flat = F.normalize(x.flatten(1), dim=1)
    n = len(x)
    others = (flat @ flat.T)[~torch.eye(n, dtype=torch.bool, device=x.device)]   # each row without itself
    return others.view(n, n - 1).log_softmax(1)


def pairwise_kl(adapted, source):
    p, q = pairwise_log_probs(adapted), pairwise_log_probs(source.detach())
    return (p.exp() * (p - q)).sum()


def authors_weight(weight, n=3):
    return weight / (n * (n - 1))


def haar_step(x):
    a, b, c, d = (x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    return (a + b + c + d) / 2, (-a + b - c + d) / 2, (-a - b + c + d) / 2, (a - b - c + d) / 2


def inverse_haar(ll, lh, hl, hh):
    top = torch.stack([ll - lh - hl + hh, ll + lh - hl - hh], dim=-1).flatten(-2) / 2
    bottom = torch.stack([ll - lh + hl - hh, ll + lh + hl + hh], dim=-1).flatten(-2) / 2
    return torch.stack([top, bottom], dim=-2).flatten(-3, -2)


def hf(x):
    _, lh, hl, hh = haar_step(x)
    return lh + hl + hh


def weighted_hf_mse(adapted, target, alphas_cumprod_t):
    return (alphas_cumprod_t.view(-1, 1, 1, 1) * (hf(adapted) - hf(target)).square()).mean()


def terms_of(net, frozen, x_0, t, eps, alphas_cumprod, published=False):
    x_t, a = q_sample(x_0, t, eps, alphas_cumprod), alphas_cumprod[t]
    answer = net(x_t, t).sample
    with torch.no_grad():
        sou = predict_x0(x_t, t, frozen(x_t, t).sample, alphas_cumprod)
    ada, weight = predict_x0(x_t, t, answer, alphas_cumprod), torch.ones_like(a) if published else a
    soft = ada.detach() + weight.sqrt().view(-1, 1, 1, 1) * (ada - ada.detach())
    return {"simple": (answer - eps).square().mean(), "img": pairwise_kl(soft, sou),
            "hf": pairwise_kl(hf(soft), hf(sou)), "hfmse": weighted_hf_mse(ada, x_0, weight)}


def total_loss(terms, weights):
    return sum(weights[name] * value for name, value in terms.items() if name in weights)


def balanced_weights(norms, share=0.5):
    return {name: 1.0 if name == "simple" else share * norms["simple"] / norm if norm else 0.0 for name, norm in norms.items()}
