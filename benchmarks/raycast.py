"""Measure rendering synthetic people with Embree and with NumPy, in CPU time of one thread.

    python benchmarks/raycast.py

Both arms render the same people of 128 pixels and encode their records, as `prepare` does. What `make pretrain` needs
is computed from them: 3,300 people indoors and 1,500 outdoors, on two cores.
"""

import os
import time

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from hcmoco.synthetic import PeopleConfig, make_person
from hcmoco.synthetic.render.embree import why_not
from hcmoco.synthetic.render.raycast import RAYCASTERS

PRETRAIN = {"indoor": 2000 + 300, "wild": 400}  # people of recipes/people-cpu.yaml
CORES = 2


def main() -> None:
    parser = arguments(__doc__, rounds=5, quick="2 people, 1 round")
    parser.add_argument("--count", type=int, default=20, help="people of each domain in a turn (default 20)")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures, pixels (default 128)")
    given = parser.parse_args()
    if reason := why_not():
        return print(f"raycast: nothing to compare, since {reason}")
    if given.quick:
        given.rounds, given.count = 1, 2
    os.environ["OMP_NUM_THREADS"] = "1"
    configs = {domain: PeopleConfig(domain=domain, size=given.size) for domain in PRETRAIN}

    def seconds(domain: str, caster: str) -> float:
        """CPU seconds a person."""
        begun = time.process_time()
        for number in range(given.count):
            make_person(configs[domain], number, dataset="people", split="train", caster=caster)
        return (time.process_time() - begun) / given.count

    for caster in RAYCASTERS:
        make_person(configs["indoor"], 0, dataset="people", split="train", caster=caster)  # imports and tables
    arms = {
        (domain, caster): (lambda d=domain, c=caster: seconds(d, c)) for domain in PRETRAIN for caster in RAYCASTERS
    }
    found = in_turns({f"{domain} {caster}": arm for (domain, caster), arm in arms.items()}, given.rounds)
    settings = {"people of each domain": given.count, "pixels": given.size, "threads": 1}
    table = Table("raycast-quick" if given.quick else "raycast", settings)
    for domain in PRETRAIN:
        own, other = found[f"{domain} numpy"], found[f"{domain} embree"]
        table.add(f"{domain}: NumPy / Embree", ratios(own, other))
        for caster in RAYCASTERS:
            table.add(f"  {domain}: {caster}", [1e3 * each for each in found[f"{domain} {caster}"]], "ms a person")
    for caster in RAYCASTERS:
        rounds = zip(*(found[f"{domain} {caster}"] for domain in PRETRAIN), strict=True)
        minutes = [
            sum(each * count for each, count in zip(turn, PRETRAIN.values(), strict=True)) / CORES / 60
            for turn in rounds
        ]
        note = f"computed: {sum(PRETRAIN.values()):,} people on {CORES} cores"
        table.add(f"the people of `make pretrain`: {caster}", minutes, "min", note=note)
    table.show()
    table.write(given.results)


if __name__ == "__main__":
    run(main)
