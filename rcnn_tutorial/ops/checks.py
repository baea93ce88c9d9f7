"""The one way in which the operators refuse bad input."""

from torch import Tensor


def expect(condition: bool, name: str, expected: str, got: object) -> None:
    """Refuse an argument: say what it is called, what was expected and what came.

    Args:
        condition: whether the argument is good.
        name: of the argument.
        expected: in words.
        got: the value; of a tensor its type and shape are told.
    Returns:
        Nothing.
    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        got = f"{got.dtype} {tuple(got.shape)}" if isinstance(got, Tensor) else got
        raise ValueError(f"{name}: expected {expected}, got {got}")
