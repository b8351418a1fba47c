"""Figures as evidence carries them."""


def short(value: float) -> float:
    """Four significant digits: what a person reads, and the same in every journal."""
    return float(f"{value:.4g}")
