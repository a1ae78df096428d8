"""What is best for its price."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other beats: none is as small in both numbers and smaller in one.

    Args:
        points: a price and a figure of each, of both of which less is better.

    Returns:
        Places in `points`, the cheapest first; of equal points all.
    """
    best, price_of_best = float("inf"), float("inf")
    places = []
    for place in sorted(range(len(points)), key=lambda place: points[place]):
        price, figure = points[place]
        if figure < best or (figure, price) == (best, price_of_best):
            best, price_of_best = figure, price
            places.append(place)
    return places
