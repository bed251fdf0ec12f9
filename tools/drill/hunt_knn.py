"""k-NN against a brute force in float64: sizes, types, temperatures, lengths, class ids, ties."""
from functools import partial

import torch

from simpool.evaluation.knn import knn_classify, neighbors, unit_rows

TYPES = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)


def scores_in_float64(train, train_y, test, k, temperature):
    "Scores (m, classes), classes, and whether the last neighbor and the next one are nearly equal (m,)"
    unit = [torch.nn.functional.normalize(x.double(), dim=1) for x in (train, test)]
    similarity, order = (unit[1] @ unit[0].T).sort(1, descending=True)
    classes, column = train_y.unique(return_inverse=True)
    near = similarity[:, :k]
    weight = ((near - near[:, :1])/temperature).exp()
    scores = weight.new_zeros(len(test), len(classes)).scatter_add_(1, column[order[:, :k]], weight)
    unsure = (similarity[:, k-1] - similarity[:, k] < 1e-5) if k < len(train) else torch.zeros(len(test)).bool()
    return scores, classes, unsure


def compare(train, train_y, test, test_y, k, temperature):
    "Compare the accuracy, but for queries whose answer float32 cannot know; says what is off"
    got = knn_classify(train, train_y, test, test_y, k, temperature)[k][0]
    scores, classes, unsure = scores_in_float64(train, train_y, test, min(k, len(train)), temperature)
    top = scores.topk(min(2, scores.shape[1]), 1).values
    unsure |= (top[:, 0] - top[:, -1] < 1e-5/temperature*top[:, 0]) if scores.shape[1] > 1 else False
    right = (classes[scores.argmax(1)] == test_y).float()
    low, high = 100*(right*~unsure).mean(), 100*torch.where(unsure, 1., right).mean()
    return None if low - .01 <= got <= high + .01 else f"{got} %, float64 {low:.2f} to {high:.2f} %"


def compare_lists(train, test, k):
    "Compare both searches with each other; says what is off"
    train, test = unit_rows(train), unit_rows(test)
    for shortlist in (False, True):
        similarity, index = neighbors(train, test, k, shortlist)
        exact = (test.double() @ train.double().T).topk(similarity.shape[1]).values
        if not (similarity.double() - exact).abs().max() < 1e-5:
            return f"shortlist {shortlist}: similarities are off by {(similarity.double() - exact).abs().max():.1e}"
        own = (test.double()[:, None]*train.double()[index]).sum(-1)
        if not (own - exact).abs().max() < 1e-5:
            return f"shortlist {shortlist}: the indices are not those of the similarities"
    return None


def one_case(rng, i):
    "Draw a case: its description and a function that tries it"
    generator = torch.Generator().manual_seed(i)
    n, m, d, classes = (int(rng.integers(1, high)) for high in (300, 40, 48, 9))
    k, temperature = int(rng.choice([1, 2, 5, 20, 400])), float(rng.choice([.07, .07, .011, .001, 1]))
    centers = torch.randn(classes, d, generator=generator)*float(rng.choice([0, 1, 10]))
    train_y, test_y = (torch.randint(classes, (size,), generator=generator) for size in (n, m))
    train, test = (centers[y] + torch.randn(len(y), d, generator=generator) for y in (train_y, test_y))
    if rng.random() < .2:
        train = torch.cat([train, train])[:n+1] # one vector twice
        train_y = torch.cat([train_y, train_y])[:n+1]
    kind = TYPES[rng.integers(len(TYPES))]
    scale = float(rng.choice([1, 1, 1e-3, 100]))
    train, test = (train*scale).to(kind), (test*scale).to(kind)
    words = f"n {n}, m {m}, d {d}, {classes} classes, k {k}, T {temperature}, {kind}, scale {scale}, case {i}"
    if i%3 == 0:
        return f"lists: {words}", partial(compare_lists, train.float(), test.float(), k)
    offset = int(rng.choice([0, 7, -3]))
    return words, partial(compare, train, train_y + offset, test, test_y + offset, k, temperature)


def hunt(tally, rng, share, folder):
    for i in range(round(9_000*share)):
        tally.case(*one_case(rng, i))
