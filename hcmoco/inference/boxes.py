"""Check the boxes of people that a user gives: those in another convention are in range, and silently wrong."""

from hcmoco.errors import UserError

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the upright picture."""


def check_box(where: str, box: Box) -> Box:
    """Return a box.

    Args:
        where: what gives it, for the message.
        box: of a person.

    Raises:
        UserError: it has no area, or is of shares of the picture.
    """
    x0, y0, x1, y1 = box
    if max(map(abs, box)) <= 1:
        raise UserError(
            f"{where}: the box {list(box)} has no number above 1, so it is most probably of shares of the picture; "
            "give pixels of the upright picture"
        )
    if x0 >= x1 or y0 >= y1:
        as_sizes = f"; left, top, width and height would be {[x0, y0, x0 + x1, y0 + y1]}" if min(x1, y1) > 0 else ""
        raise UserError(
            f"{where}: the box must be x0, y0, x1, y1 with x0 < x1 and y0 < y1, it is {list(box)}{as_sizes}"
        )
    return box
