"""Makes the files of this shop, which sells tea and is invented: a year of orders, the teas, the customers, and one day more.

    python make.py [FOLDER]

The same files come out each time (by default beside this script). No real customer is in them. What a customer buys depends on
how popular and how new a tea is and, most of all, on taste: for kinds of tea, for notes, and for an hour of the day. The kind is
a column of the catalogue; notes and hours can be read from titles and descriptions alone.
"""

import csv
import math
import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SEED = 7
DAY = 86_400
OPENS = 1_796_025_600
"""Monday, 30 November 2026, 08:00 UTC: when the day begins that ``day.py`` plays."""
HOURS = 12
BEGAN = OPENS - 364 * DAY
TEAS, LAUNCHED, NEW = 160, 14, 4
"""Of the teas so many came during the year, and so many more come on the day."""
CUSTOMERS, ORDERS = 560, 9_600
VISITORS, SIGN_UPS = 60, 20

KINDS = {
    "black": (["Assam", "Ceylon", "Keemun", "Darjeeling", "Breakfast Blend"], "middle"),
    "green": (["Sencha", "Gunpowder", "Dragonwell", "Genmaicha", "Bancha"], "middle"),
    "oolong": (["Tieguanyin", "Dong Ding", "Dancong", "Baozhong"], "high"),
    "white": (["Silver Needle", "White Peony", "Shou Mei"], "high"),
    "herbal": (["Camomile", "Peppermint", "Verbena", "Nettle", "Hibiscus"], "low"),
    "rooibos": (["Rooibos", "Honeybush"], "low"),
    "chai": (["Masala Chai", "Karak Chai", "Chai Blend"], "low"),
}
NOTES = {
    "malty": ["cocoa", "toast", "malt", "biscuit", "caramel"],
    "floral": ["jasmine", "rose", "orchid", "lavender", "lilac"],
    "fruity": ["peach", "plum", "apricot", "berries", "quince"],
    "zesty": ["bergamot", "lemon", "orange peel", "yuzu", "lime"],
    "smoky": ["pine", "leather", "cedar", "embers", "tobacco"],
    "spicy": ["ginger", "cardamom", "clove", "cinnamon", "pepper"],
}
TIMES = {
    "morning": ["for early risers", "with breakfast", "before work"],
    "afternoon": ["for the afternoon", "with cake", "for a quiet break"],
    "evening": ["after dinner", "for late reading", "before bed"],
}
NAMES = ["Old", "Misty", "Little", "Silver", "Harbour", "Winter", "Copper", "Quiet", "Garden", "Northern", "Velvet", "River"]
SPREAD = ((KINDS, 3.0), (NOTES, 2.0), (TIMES, 0.8))
"""How far apart tastes are."""
PROFILE = 2.0
"""What a word of a customer's profile adds."""
CITIES = ["Leeds", "York", "Bath", "Hull", "Derby", "Exeter"]
DRINKS = {
    "with milk": ["black", "chai", "rooibos"],
    "plain": ["green", "oolong", "white"],
    "without caffeine": ["herbal", "rooibos"],
}


@dataclass(frozen=True)
class Tea:
    """One of the catalogue, and what decides who buys it."""

    id: str
    title: str
    description: str
    kind: str
    price: str
    note: str
    hour: str
    launched: int
    popularity: float


@dataclass
class Customer:
    """Who buys, and what he or she likes."""

    id: str
    city: str
    drinks: str
    taste: Mapping[str, float]
    bought: set[str] = field(default_factory=set)


def teas(rng: random.Random) -> list[Tea]:
    """Those of the beginning, then those of the year, then those of the day."""
    made, titles = list[Tea](), set[str]()
    while len(made) < TEAS + NEW:
        kind, note, hour = rng.choice(list(KINDS)), rng.choice(list(NOTES)), rng.choice(list(TIMES))
        sorts, price = KINDS[kind]
        title = f"{rng.choice(NAMES)} {note.capitalize()} {rng.choice(sorts)}"
        if title in titles:
            continue
        titles.add(title)
        words = " and ".join(rng.sample(NOTES[note], 2))
        text = f"A {note} {kind} tea {rng.choice(TIMES[hour])}: {words}."
        number = len(made)
        since = number - (TEAS - LAUNCHED)
        launched = BEGAN if since < 0 else BEGAN + (since + 1) * 360 * DAY // LAUNCHED
        if number >= TEAS:
            launched = OPENS + (number - TEAS + 1) * 2 * 3600
        made.append(Tea(f"t{number + 1:03}", title, text, kind, price, note, hour, launched, rng.gauss(0, 0.6)))
    return made


def customers(rng: random.Random) -> list[Customer]:
    """Those of the year, then those who sign up on the day."""
    made = []
    for number in range(CUSTOMERS + SIGN_UPS):
        drinks = rng.choice(list(DRINKS))
        taste = {word: round(rng.gauss(0, spread), 3) for words, spread in SPREAD for word in words}
        for kind in DRINKS[drinks]:
            taste[kind] = round(taste[kind] + PROFILE, 3)
        made.append(Customer(f"c{number + 1:03}", rng.choice(CITIES), drinks, taste))
    return made


def liked(customer: Customer, tea: Tea) -> float:
    """How much a customer likes a tea."""
    return customer.taste[tea.kind] + customer.taste[tea.note] + customer.taste[tea.hour]


def choice(rng: random.Random, customer: Customer, sold: list[Tea], time: int) -> Tea:
    """What a customer buys then: a tea that is sold and that he or she has not had."""
    there = [tea for tea in sold if tea.launched <= time and tea.id not in customer.bought]
    weights = []
    for tea in there:
        novelty = 1.2 if 0 < time - tea.launched < 21 * DAY and tea.launched > BEGAN else 0.0
        weights.append(round(math.exp(liked(customer, tea) + tea.popularity + novelty), 6))
    (tea,) = rng.choices(there, weights)
    customer.bought.add(tea.id)
    return tea


def year(rng: random.Random, known: list[Customer], sold: list[Tea]) -> list[tuple[str, str, int]]:
    """Orders in the order of their times: customers come at different times of the year, and some buy more than others."""
    shares = [round(rng.lognormvariate(0, 0.5), 6) for _ in known]
    begins = [BEGAN + rng.randrange(0, 250 * DAY) if rng.random() < 0.4 else BEGAN for _ in known]
    visits = []
    for number in rng.choices(range(len(known)), shares, k=ORDERS):
        day = rng.randrange(begins[number] // DAY, OPENS // DAY)
        visits.append((day * DAY + rng.randrange(8 * 3600, 20 * 3600), number))
    return [(known[number].id, choice(rng, known[number], sold, time).id, time) for time, number in sorted(visits)]


def day(rng: random.Random, known: list[Customer], new: list[Customer], sold: list[Tea]) -> list[tuple[str, int, str, str, str]]:
    """What happens on the day, in order: teas are launched, customers sign up and buy, one of them asks to be forgotten."""
    rows = [("launch", tea.launched, "", tea.id, "") for tea in sold if tea.launched > OPENS]
    visits = []
    for customer in [*rng.sample(known, VISITORS), *new]:
        begin = OPENS + rng.randrange(600, (HOURS - 3) * 3600)
        if customer in new:
            rows.append(("sign-up", begin - 60, customer.id, "", ""))
        visits += [(begin + visit * rng.randrange(600, 2400), customer) for visit in range(rng.randrange(2, 6))]
    visits.sort(key=lambda visit: (visit[0], visit[1].id))
    for number, (time, customer) in enumerate(visits, start=1):
        rows.append(("order", time, customer.id, choice(rng, customer, sold, time).id, f"order-{number:04}"))
    leaves = visits[len(visits) // 3][1]
    last = max(time for time, customer in visits if customer is leaves)
    rows.append(("forget", last + 1800, leaves.id, "", ""))
    return sorted(rows, key=lambda row: row[1])


def write(path: Path, header: str, rows: Iterable[Iterable[object]]) -> None:
    """A file of comma-separated values."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)


def make(folder: Path) -> None:
    """All files."""
    rng = random.Random(SEED)
    sold, buyers = teas(rng), customers(rng)
    known, new = buyers[:CUSTOMERS], buyers[CUSTOMERS:]
    as_rows = [(tea.id, tea.title, tea.description, tea.kind, tea.price) for tea in sold]
    write(folder / "orders.csv", "user,item,time", year(rng, known, sold))
    write(folder / "teas.csv", "item,title,description,kind,price", as_rows[:TEAS])
    write(folder / "new-teas.csv", "item,title,description,kind,price", as_rows[TEAS:])
    write(folder / "customers.csv", "user,city,drinks", [(one.id, one.city, one.drinks) for one in known])
    write(folder / "day.csv", "what,time,user,item,id", day(rng, known, new, sold))


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
