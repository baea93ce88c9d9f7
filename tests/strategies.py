"""Random inputs for the operators: floats, and small whole numbers that make ties and exact thresholds common."""

import torch
from hypothesis import strategies as st


@st.composite
def boxes(draw, min_count=0, max_count=40, area=False, dtype=torch.float32):
    """(N, 4); without `area` some have none."""
    n = draw(st.integers(min_count, max_count))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    if draw(st.booleans()):
        corner = torch.randint(-3, 8, (n, 2), generator=generator)
        size = torch.randint(1 if area else 0, 7, (n, 2), generator=generator)
    else:
        corner = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 100 - 20
        size = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 60 + 1e-3
    return torch.cat((corner, corner + size), dim=1).to(dtype)


@st.composite
def scored_boxes(draw, **kwargs):
    """(N, 4) and (N,) scores, with ties."""
    found = draw(boxes(**kwargs))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scores = torch.rand(len(found), generator=generator)
    return found, (scores * 6).round() / 6 if draw(st.booleans()) else scores
