r"""What couplings, retrieval and soft tokens are worth, over the runs of recipe.toml under several seeds.

    python studies/factors/factors.py runs/study-0 runs/study-1 runs/study-2 --out studies/factors/results.json \
      --picture studies/factors/auc.png

A factor's effect is the mean, over all systems that differ in nothing else and over the seeds, of the difference in AUC; a user
is left out of all systems and seeds at once, so the differences are paired.
"""

from dataclasses import asdict

from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.significance import Difference, paired_test
from lifelora.evaluation.tables import p_value, with_span
from lifelora.study import tell
from lifelora.study.compare import mean_of
from lifelora.study.seeds import Several, over_seeds

COUPLINGS, SHOWN, PROMPTS = ("lora", "experts", "meta", "hydra", "full"), ("recent", "retrieved"), ("", "-soft")


def effects(several: Several) -> dict[str, Difference]:
    """Effect on AUC by its name; each is a mean over all the systems that differ in nothing else."""

    def cells(couplings: tuple[str, ...], shown: tuple[str, ...], prompts: tuple[str, ...]) -> Jackknifed:
        return mean_of([several.of(f"{c}-{s}{p}") for c in couplings for s in shown for p in prompts])

    found = {}
    for name, couplings in (("all couplings", COUPLINGS), ("plain LoRA", ("lora",)), ("personal couplings", COUPLINGS[1:])):
        retrieved, recent = (cells(couplings, (shown,), PROMPTS) for shown in ("retrieved", "recent"))
        soft, text = (cells(couplings, SHOWN, (prompt,)) for prompt in ("-soft", ""))
        found[f"retrieved minus recent, {name}"] = paired_test(retrieved, recent)["auc"]
        found[f"soft tokens minus text, {name}"] = paired_test(soft, text)["auc"]
    for coupling in COUPLINGS[1:]:
        for prompt, said in (("", "text"), ("-soft", "soft tokens")):
            own, plain = cells((coupling,), SHOWN, (prompt,)), cells(("lora",), SHOWN, (prompt,))
            found[f"{coupling} minus plain LoRA, {said}"] = paired_test(own, plain)["auc"]
            found[f"{coupling} minus din, {said}"] = paired_test(own, several.of("din"))["auc"]
    for coupling in COUPLINGS[2:]:
        own, experts = cells((coupling,), SHOWN, PROMPTS), cells(("experts",), SHOWN, PROMPTS)
        found[f"{coupling} minus experts"] = paired_test(own, experts)["auc"]
    return found


def main() -> None:
    """Print the table and the effects; write the file and the picture."""
    study = tell.asked(__doc__)
    several = study.several
    told, found = over_seeds(several.runs, "din"), effects(several)
    print(told)
    for what, d in found.items():
        print(f"{what:<48} {with_span(d)}  {p_value(d.p)}")
    study.write(
        {
            "rows_hash": [several.of("din", [seed]).rows_hash for seed in several.seeds],
            "effects on AUC": {what: asdict(d) for what, d in found.items()},
        }
        | told.as_json(),
    )
    if study.picture:
        figures = {name: one.mean["auc"] for name, one in told.systems.items()}
        colours = {name: COUPLINGS.index(name.partition("-")[0]) if "-" in name else len(COUPLINGS) for name in figures}
        said = f"AUC, mean of {len(several.runs)} seeds, with its interval over users"
        tell.draw_forest(study.picture, figures, said, colours)


if __name__ == "__main__":
    main()
