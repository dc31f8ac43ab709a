"""What to keep in mind about a plan, in plain words; each caveat only where it applies."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_scaling.laws import KAPLAN_TABLE_5_D, KAPLAN_TABLE_6
from lightning_scaling.laws.shape import with_embeddings
from lightning_scaling.laws.trade import compute_ratio
from lightning_scaling.planner.answer import Answer
from lightning_scaling.planner.sources import PlanLaws
from lightning_scaling.planner.spread import Spread, number, whole
from lightning_scaling.units import PF_DAY

#: Excess of the loss over that on endless data that Eq. 4.4 puts up with.
_TOLERATED = 0.02


def of(
    laws: PlanLaws,
    kaplan: Answer | None,
    hoffmann: Answer | None,
    *,
    L: float | None,
    B: float | None,
    data: float | None,
) -> tuple[str, ...]:
    """Return the caveats of a plan, the weightiest first."""
    return tuple(_all(laws, kaplan, hoffmann, L, B, data))


def _all(
    laws: PlanLaws, kaplan: Answer | None, hoffmann: Answer | None, L: float | None, B: float | None, data: float | None
) -> Iterator[str]:
    if kaplan is None and laws.kaplan:
        yield f"Kaplan's laws give no compute for a loss of {L:g}."
    if hoffmann is None and laws.hoffmann and L is not None:
        yield _never(Spread.of([law.E for law in laws.hoffmann], laws.level).mid, L)
    for name, answer in (("Kaplan", kaplan), ("Hoffmann", hoffmann)):
        if answer is not None:
            yield from _beyond(name, answer)
            if answer.reached < 1.0:
                never = 100.0 * (1.0 - answer.reached)
                yield f"{name}: by {never:.0f} % of the sets of constants no compute is enough; ranges leave them out."
            if data is not None:
                yield from _repeated(name, answer, laws, data)
    if kaplan is not None and kaplan.ratio is not None and laws.published:
        C_min = kaplan.C.mid / float(compute_ratio(kaplan.ratio.mid))
        end = KAPLAN_TABLE_6.breakdown(KAPLAN_TABLE_5_D)
        if C_min > end:
            yield (
                f"Beyond {number(end / PF_DAY)} PF-days of C_min Kaplan's own laws contradict each other (Eq. 6.8): "
                "the tokens of this plan do not allow the loss that its compute promises."
            )
    if kaplan is not None and hoffmann is not None:
        yield from _side_by_side(kaplan, published=laws.published, laws_of_one_kind=laws.batch is not None)
    if laws.batch is not None:
        yield f"The laws hold at the batch size of their runs, {whole(float(laws.batch))} tokens per step."
    if kaplan is not None and kaplan.ratio is not None:
        yield (
            "The critical batch is extrapolated in the loss, for Adam it is a rule of thumb, and later work finds that "
            "it follows tokens more than loss. Measure it before you buy hardware for it."
        )
    if hoffmann is not None and hoffmann.S is not None and laws.batch is None:
        whose = "Kaplan's batch" if B is None else "the batch that was asked for"
        yield f"Hoffmann's law has no batch size: its steps are counted at {whose}."
    if any(answer is not None and answer.data_needed is not None for answer in (kaplan, hoffmann)):
        yield (
            "Tokens are read once. Where fewer are at hand they repeat; with fewer than `data needed`, a model of this "
            "size that is trained to convergence overfits by more than 2 % (Eq. 4.4)."
        )
    yield "Losses are those of a schedule that ends at the planned step, not of a run that is stopped there."


def _side_by_side(kaplan: Answer, *, published: bool, laws_of_one_kind: bool) -> Iterator[str]:
    if published:
        yield (
            "That the two disagree is known: Kaplan's N grows as about C^0.7, Hoffmann's as about C^0.5. Porian et al. "
            "2024 trace it to uncounted output layers, long warm-ups and untuned small models, and side with Hoffmann. "
            "Besiroglu et al. 2024 put the best tokens per parameter between 4 and 40 (80 %) from 1e26 FLOP on."
        )
        yield (
            "Their losses do not compare: other data, other tokens. Kaplan's laws have no irreducible loss and so "
            "promise too much far out."
        )
    if laws_of_one_kind:
        yield (
            "Kaplan's law has no irreducible loss and Hoffmann's has one; both are fitted to the same runs. How far "
            "they lie apart shows what the runs leave open."
        )
        return
    yield (
        f"Kaplan counts N without embeddings, Hoffmann with them: {number(kaplan.N.mid, 3)} is about "
        f"{number(float(with_embeddings(kaplan.N.mid)), 3)} with those of a vocabulary of 50257."
    )


def _repeated(name: str, answer: Answer, laws: PlanLaws, data: float) -> Iterator[str]:
    assert answer.passes is not None
    if answer.passes.mid > 1.0:
        yield (
            f"{name}: {number(answer.D.mid)} tokens are {number(answer.passes.mid)} passes over the data, and the loss "
            "is that of tokens read once. Up to some four passes repeated tokens are nearly as good as new ones, "
            "beyond they soon bring little (Muennighoff et al. 2023)."
        )
    if answer.overfitting is not None and answer.overfitting.mid > _TOLERATED:
        most = laws.data[0].size_supported(data, _TOLERATED)
        yield (
            f"{name}: a model of {number(answer.N.mid)} parameters that is trained to convergence on {number(data)} "
            f"tokens overfits by {number(100.0 * answer.overfitting.mid)} %; up to {number(float(most))} parameters "
            "stay within 2 % (Eq. 4.4). Stop at the least validation loss, or take a smaller model."
        )


def _never(E: float, L: float) -> str:
    if E >= L:
        return f"Hoffmann's law never reaches a loss of {L:g}: its irreducible loss is {E:.5g}."
    return f"Hoffmann's law gives no compute for a loss of {L:g}."


def _beyond(name: str, answer: Answer) -> Iterator[str]:
    for quantity, what in (("N", "parameters"), ("D", "tokens")):
        decades = getattr(answer, f"{quantity}_beyond")
        if decades:
            value, times = getattr(answer, quantity).mid, number(10.0 ** abs(decades))
            side = f"{times} times the most" if decades > 0.0 else f"{times} times fewer than the fewest"
            yield f"{name}: {number(value)} {what} are {side} that the law was fitted to, so this extrapolates."
