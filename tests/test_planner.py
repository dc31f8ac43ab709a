"""The planner: its answers obey the laws they come from, and its text says what it rests on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling import Plan, PlanLaws, own_laws, plan
from lightning_scaling.laws import (
    BESIROGLU,
    KAPLAN_TABLE_2,
    KAPLAN_TABLE_3,
    KAPLAN_TABLE_6,
    KAPLAN_TEXT,
    CriticalBatch,
    Frontier,
    HoffmannND,
    KaplanNS,
)
from lightning_scaling.planner import PUBLISHED, Answer, Explored, Spread
from lightning_scaling.planner.spread import number
from lightning_scaling.units import DAY_S, PF_DAY
from tests.laws.draws import between

OWN = Frontier(KAPLAN_TABLE_3, KAPLAN_TEXT)
budgets = between(1e14, 1e28)
ratios = between(1e-2, 1e2)


def kaplan(answer: Plan) -> Answer:
    assert answer.kaplan is not None
    return answer.kaplan


def hoffmann(answer: Plan) -> Answer:
    assert answer.hoffmann is not None
    return answer.hoffmann


def spreads(answer: Answer) -> list[Spread]:
    return [value for value in vars(answer).values() if isinstance(value, Spread)]


class TestLaws:
    @given(budgets, ratios)
    def test_a_plan_adds_up(self, C: float, ratio: float) -> None:
        got = plan(C=C, batch_ratio=ratio)
        for answer in (kaplan(got), hoffmann(got)):
            assert 6.0 * answer.N.mid * answer.D.mid == pytest.approx(C, rel=1e-9)
            assert answer.B is not None
            assert answer.S is not None
            assert answer.B.mid * answer.S.mid == pytest.approx(answer.D.mid, rel=1e-9)
            assert answer.tokens_per_parameter.mid == pytest.approx(answer.D.mid / answer.N.mid)
            assert all(s.low <= s.mid <= s.high and 0.0 < s.low and np.isfinite(s.high) for s in spreads(answer))
            assert all(s.level is None for s in spreads(answer))
        assert kaplan(got).N.mid == pytest.approx(float(KAPLAN_TABLE_6.N(C / (1.0 + ratio))))
        assert hoffmann(got).N.mid == pytest.approx(float(BESIROGLU.N_opt(C)))

    @given(budgets, ratios)
    def test_the_run_that_is_planned_reaches_the_loss_that_is_promised(self, C: float, ratio: float) -> None:
        """End to end: L(N, S at batch B), solved without the frontier, gives back the loss of the plan."""
        answer = kaplan(plan(C=C, batch_ratio=ratio, laws=PlanLaws(kaplan=[OWN])))
        assert answer.B is not None
        assert answer.S is not None
        loss = KAPLAN_TABLE_3.loss_at_batch(answer.N.mid, answer.S.mid, answer.B.mid, KAPLAN_TEXT)
        assert loss == pytest.approx(answer.L.mid, rel=1e-9)

    @given(budgets, ratios)
    def test_a_loss_asks_for_the_budget_that_buys_it(self, C: float, ratio: float) -> None:
        bought = plan(C=C, batch_ratio=ratio)
        for who in (kaplan, hoffmann):
            asked = who(plan(L=who(bought).L.mid, batch_ratio=ratio))
            assert asked.C.mid == pytest.approx(C, rel=1e-6)
            assert asked.N.mid == pytest.approx(who(bought).N.mid, rel=1e-6)

    @given(between(1e3, 1e8), between(1e12, 1e18))
    def test_time_at_a_speed_is_compute(self, time_s: float, flop_per_s: float) -> None:
        got = plan(time_s=time_s, flop_per_s=flop_per_s)
        assert kaplan(got).N == kaplan(plan(C=time_s * flop_per_s)).N
        assert kaplan(got).time_s is not None
        assert kaplan(got).time_s.mid == pytest.approx(time_s)  # type: ignore[union-attr]

    @given(budgets, ratios)
    def test_the_trade_keeps_the_loss(self, C: float, ratio: float) -> None:
        """Eq. 5.1: (S/S_min - 1)(C/C_min - 1) = 1 along the rows, one of which is the plan itself."""
        got = plan(C=C, batch_ratio=ratio, flop_per_s=1e15, laws=PlanLaws(kaplan=[OWN]))
        answer = kaplan(got)
        assert 5 <= len(got.trade) <= 6
        for row in got.trade:
            loss = KAPLAN_TABLE_3.loss_at_batch(answer.N.mid, row.S, row.B, KAPLAN_TEXT)
            assert loss == pytest.approx(answer.L.mid, rel=1e-9)
            assert row.C == pytest.approx(6.0 * answer.N.mid * row.B * row.S)
            assert row.time_s == pytest.approx(row.C / 1e15)
        own = next(row for row in got.trade if row.ratio == ratio)
        assert answer.S is not None
        assert own.S == pytest.approx(answer.S.mid)
        assert own.C == pytest.approx(C)
        assert all(a.S > b.S and a.C < b.C for a, b in zip(got.trade, got.trade[1:], strict=False))

    @given(budgets)
    def test_the_data_needed_hold_overfitting_at_two_percent(self, C: float) -> None:
        for answer in (kaplan(plan(C=C)), hoffmann(plan(C=C))):
            assert answer.data_needed is not None
            assert KAPLAN_TABLE_2.overfitting(answer.N.mid, answer.data_needed.mid) == pytest.approx(0.02)

    def test_the_papers_own_example(self) -> None:
        """Table 6 at 1 PF-day of C_min, which a run at the critical batch spends twice."""
        answer = kaplan(plan(C=2.0 * PF_DAY))
        assert answer.N.mid == pytest.approx(1.3e9)
        assert answer.B is not None
        assert answer.B.mid == pytest.approx(2e6)
        assert answer.S is not None
        assert answer.S.mid / 2.0 == pytest.approx(5.4e3 / 0.975)  # the table's 6 N B S is 0.975 C
        assert answer.D.mid == pytest.approx(2.2e10, rel=0.01)
        assert answer.L.mid == pytest.approx(2.65808, abs=5e-6)
        assert answer.N.low == pytest.approx(5.8e8, rel=0.01)  # the theory of Appendix B


class TestBeyond:
    def test_how_far_beyond_what_was_explored(self) -> None:
        near, far = kaplan(plan(C=0.1 * PF_DAY)), kaplan(plan(C=1e4 * PF_DAY))
        assert near.N_beyond == near.D_beyond == 0.0
        assert far.N_beyond == pytest.approx(np.log10(far.N.mid / 1.5e9))
        assert far.D_beyond == pytest.approx(np.log10(far.D.mid / 2.3e10))
        small = hoffmann(plan(C=1e15))
        assert small.N_beyond == pytest.approx(np.log10(small.N.mid / 7e7))
        assert small.N_beyond < 0.0  # type: ignore[operator]
        assert "times fewer than the fewest" in str(plan(C=1e15))

    def test_not_known_for_own_laws_without_a_range(self) -> None:
        got = plan(C=1e20, laws=PlanLaws(kaplan=[OWN]))
        assert kaplan(got).N_beyond is None
        assert "not known" in str(got)

    def test_a_range_must_be_one(self) -> None:
        with pytest.raises(ValueError, match=r"^Expected N as \(smallest, largest\), got \(2.0, 1.0\)"):
            Explored(N=(2.0, 1.0), D=(1.0, 2.0))

    def test_where_the_laws_break_down(self) -> None:
        assert "contradict each other" in str(plan(C=3e4 * PF_DAY))
        assert "contradict each other" not in str(plan(C=1e4 * PF_DAY))


class TestOwnLaws:
    def draws(self, n: int = 400) -> list[Frontier]:
        rng = np.random.default_rng(7)
        return [
            Frontier(
                KaplanNS(0.077 * np.exp(0.02 * a), 0.76, 6.5e13, 2.1e3 * np.exp(0.1 * b)), CriticalBatch(2e8, 0.21)
            )
            for a, b in rng.standard_normal((n, 2))
        ]

    def test_draws_give_intervals_of_their_level(self) -> None:
        draws = self.draws()
        laws = PlanLaws(kaplan=draws, data=[KAPLAN_TABLE_2], level=0.8, source="400 draws")
        got = kaplan(plan(C=PF_DAY, laws=laws))
        N = [float(draw.N(PF_DAY / 2.0)) for draw in draws]
        assert got.N == Spread(*(float(q) for q in np.quantile(N, [0.1, 0.5, 0.9])), level=0.8)
        assert np.mean([got.N.low <= x <= got.N.high for x in N]) == pytest.approx(0.8, abs=0.01)
        text = str(plan(C=PF_DAY, laws=laws))
        assert "Constants: 400 draws." in text
        assert "80 % intervals" in text
        assert "NOT YOURS" not in text
        assert "Hoffmann" not in text

    def test_one_set_has_no_range(self) -> None:
        got = plan(C=PF_DAY, laws=PlanLaws(kaplan=[OWN]))
        assert kaplan(got).N.low == kaplan(got).N.high
        assert kaplan(got).data_needed is None
        assert "no range is known" in str(got)
        assert "data needed" not in str(got)

    def test_hoffmann_alone_knows_no_batch(self) -> None:
        got = plan(C=PF_DAY, laws=PlanLaws(hoffmann=[BESIROGLU], source="mine"))
        assert got.kaplan is None
        assert got.trade == ()
        assert hoffmann(got).B is None
        assert hoffmann(got).S is None
        text = str(got)
        assert "steps S" not in text
        assert "Kaplan" not in text

    def test_draws_that_never_reach_the_loss_are_counted_out(self) -> None:
        reach = [HoffmannND(E, 400.0, 2000.0, 0.35, 0.37) for E in (1.5, 1.6, 1.7, 1.9)]
        got = plan(L=1.8, laws=PlanLaws(hoffmann=reach, level=0.9))
        assert hoffmann(got).reached == 0.75
        assert "by 25 % of the sets of constants no compute is enough" in str(got)
        never = plan(L=1.55, laws=PlanLaws(hoffmann=reach, level=0.9))
        assert never.hoffmann is None
        assert "its irreducible loss is 1.65" in str(never)

    def test_bad_laws(self) -> None:
        with pytest.raises(ValueError, match=r"^Expected a frontier or a law of Hoffmann, got neither"):
            PlanLaws(data=[KAPLAN_TABLE_2])
        for level in (0.0, 1.0, 90):
            with pytest.raises(ValueError, match=r"^Expected level between 0 and 1"):
                PlanLaws(kaplan=[OWN], level=level)


class TestQuestions:
    def test_a_loss_below_the_irreducible_one(self) -> None:
        got = plan(L=1.8)
        assert got.hoffmann is None
        assert kaplan(got).L.mid == pytest.approx(1.8)
        assert "never reaches a loss of 1.8: its irreducible loss is 1.8172" in str(got)

    def test_a_loss_that_no_float_can_pay_for(self) -> None:
        got = plan(L=1e-6)
        assert got.kaplan is None
        assert got.hoffmann is None
        assert "Kaplan's laws give no compute for a loss of 1e-06." in str(got)

    @given(
        st.sampled_from(["C", "time_s", "flop_per_s", "L", "batch_ratio", "B", "data"]),
        st.sampled_from([0.0, -1.0, 10**400, np.inf, np.nan]),
    )
    def test_numbers_must_be_positive_and_finite(self, name: str, bad: float) -> None:
        with pytest.raises(ValueError, match=rf"^Expected {name} from 1e-09 to 1e\+45, got"):
            plan(**({"C": 1e20} | {name: bad}))

    @given(between(1e-9, 1e45), between(1e-9, 1e45), between(1e-9, 1e45))
    def test_whatever_is_asked_is_answered(self, x: float, ratio: float, speed: float) -> None:
        for text in (
            str(plan(C=x, batch_ratio=ratio, flop_per_s=speed)),
            str(plan(L=x, batch_ratio=ratio, flop_per_s=speed)),
        ):
            assert "nan" not in text
            assert "inf" not in text.replace("confirm", "")

    @pytest.mark.parametrize("bad", ["1e20", True, [1e20]])
    def test_numbers_must_be_numbers(self, bad: Any) -> None:
        with pytest.raises(TypeError, match=r"^Expected C to be a number, got"):
            plan(C=bad)

    @pytest.mark.filterwarnings("error")
    def test_short_floats_answer_as_long_ones_do(self) -> None:
        short = np.float32(1e20)
        assert str(plan(C=short)) == str(plan(C=float(short)))  # type: ignore[arg-type]

    def test_a_store_that_carries_no_fit_leaves_the_constants_of_the_papers(self) -> None:
        assert str(plan(C=1e20, laws=own_laws([]).laws)) == str(plan(C=1e20))
        assert own_laws([]).reason.startswith("Expected finished runs of 3 sizes")

    def test_laws_that_know_no_batch_name_none(self) -> None:
        assert str(plan(C=1e20, laws=PlanLaws(hoffmann=[BESIROGLU]))).startswith(
            "Plan for C = 1e20 FLOP (1.16 PF-days)\n"
        )

    def test_laws_of_another_kind(self) -> None:
        with pytest.raises(TypeError, match=r"^Expected laws to be PlanLaws, got OwnLaws, so pass own_laws"):
            plan(C=1e20, laws=own_laws([]))  # type: ignore[arg-type]

    def test_one_question_at_a_time(self) -> None:
        with pytest.raises(ValueError, match=r"^Expected one of C, time_s and L, got none"):
            plan()
        with pytest.raises(ValueError, match=r"^Expected one of C, time_s and L, got C and L"):
            plan(C=1e20, L=3.0)
        with pytest.raises(ValueError, match=r"^Expected flop_per_s with time_s"):
            plan(time_s=DAY_S)
        with pytest.raises(ValueError, match=r"^Expected time_s \* flop_per_s from 1e-09 to"):
            plan(time_s=1e40, flop_per_s=1e40)


TEXT = """\
Plan for C = 1.73e20 FLOP (2 PF-days), 10 days at 2e14 FLOP/s, at the critical batch size

THE CONSTANTS ARE THE PAPERS', NOT YOURS: Kaplan et al. 2020 (WebText2, vocabulary of 50257): Table
6, and App. B with three B_crit(L); Hoffmann et al. 2022 (MassiveText) as refitted by Besiroglu et
al. 2024, and as printed. Other data, tokens or architecture move every number below; only the shape
of the laws can be hoped to carry over. Fit your own runs before you rely on one.

                           Kaplan                     Hoffmann, refitted
-------------------------------------------------------------------------------
model size N [parameters]  1.3e9 (5.8e8 to 1.3e9)     1.1e9 (8.3e8 to 1.1e9)
tokens D                   2.2e10 (2.2e10 to 4.9e10)  2.5e10 (2.5e10 to 3.5e10)
steps S                    11000 (11000 to 26000)     13000 (13000 to 17000)
batch B [tokens]           2e6 (1.8e6 to 2e6)         2e6
tokens per parameter       17 (17 to 84)              23 (23 to 42)
loss [nats/token]          2.66 (2.66 to 2.69)        2.49 (2.48 to 2.53)
compute C [FLOP]           1.73e20                    1.73e20
wall time                  10 days                    10 days
data needed [tokens]       2.9e10 (1.6e10 to 2.9e10)  2.6e10 (2.1e10 to 2.6e10)
beyond what was explored   inside                     inside

In brackets: the smallest and the largest over the published sets of constants. Kaplan gives no
errors and the refit of Hoffmann no covariance, so these are no probabilities, and the truth may lie
outside.

Time against compute, for Kaplan's model and loss; steps are time where devices are added with the
batch:
B / B_crit  batch [tokens]  steps  compute [FLOP]  wall time
------------------------------------------------------------
0.1         2e5             61000  9.5e19          5.5 days
0.3         6e5             24000  1.1e20          6.5 days
1           2e6             11000  1.7e20          10 days
3           6e6             7400   3.5e20          20 days
10          2e7             6100   9.5e20          55 days

Keep in mind:
- That the two disagree is known: Kaplan's N grows as about C^0.7, Hoffmann's as about C^0.5. Porian
  et al. 2024 trace it to uncounted output layers, long warm-ups and untuned small models, and side
  with Hoffmann. Besiroglu et al. 2024 put the best tokens per parameter between 4 and 40 (80 %)
  from 1e26 FLOP on.
- Their losses do not compare: other data, other tokens. Kaplan's laws have no irreducible loss and
  so promise too much far out.
- Kaplan counts N without embeddings, Hoffmann with them: 1.3e9 is about 1.35e9 with those of a
  vocabulary of 50257.
- The critical batch is extrapolated in the loss, for Adam it is a rule of thumb, and later work
  finds that it follows tokens more than loss. Measure it before you buy hardware for it.
- Hoffmann's law has no batch size: its steps are counted at Kaplan's batch.
- Tokens are read once. Where fewer are at hand they repeat; with fewer than `data needed`, a model
  of this size that is trained to convergence overfits by more than 2 % (Eq. 4.4).
- Losses are those of a schedule that ends at the planned step, not of a run that is stopped there.
"""


class TestText:
    def test_of_a_plan(self) -> None:
        assert str(plan(time_s=10 * DAY_S, flop_per_s=2e14)) + "\n" == TEXT

    def test_the_constants_are_said_to_be_the_papers(self) -> None:
        assert PUBLISHED.published
        for question in ({"C": 1e20}, {"L": 3.0}, {"time_s": 1e6, "flop_per_s": 1e14}):
            lines = str(plan(**question)).splitlines()
            assert lines[2].startswith("THE CONSTANTS ARE THE PAPERS', NOT YOURS")
            assert max(len(line) for line in lines) <= 120

    @given(between(1e-6, 1e30))
    def test_numbers_keep_their_size(self, x: float) -> None:
        assert float(number(x)) == pytest.approx(x, rel=0.051)
        assert float(number(x, 4)) == pytest.approx(x, rel=0.00051)

    def test_a_spread_shows_that_its_ends_differ(self) -> None:
        assert str(Spread(2.658, 2.658, 2.694)) == "2.66 (2.66 to 2.69)"
        assert str(Spread(2.0, 2.0, 2.0)) == "2"
        assert str(Spread(2.00001, 2.00001, 2.00002)) == "2"


class TestFixedBatch:
    @given(budgets, between(1e2, 1e10))
    def test_the_run_at_this_batch_reaches_the_loss_that_is_promised(self, C: float, B: float) -> None:
        answer = kaplan(plan(C=C, B=B, laws=PlanLaws(kaplan=[OWN])))
        assert answer.S is not None
        assert answer.C.mid == pytest.approx(C, rel=1e-9)
        loss = KAPLAN_TABLE_3.loss_at_batch(answer.N.mid, answer.S.mid, B, KAPLAN_TEXT)
        assert loss == pytest.approx(answer.L.mid, rel=1e-7)

    @given(budgets, between(1e3, 1e9), st.sampled_from([0.7, 1.4]))
    def test_no_other_model_does_better_at_this_batch(self, C: float, B: float, other: float) -> None:
        answer = kaplan(plan(C=C, B=B, laws=PlanLaws(kaplan=[OWN])))
        N = other * answer.N.mid
        assert KAPLAN_TABLE_3.loss_at_batch(N, C / (6.0 * N * B), B, KAPLAN_TEXT) > answer.L.mid

    @given(budgets, ratios)
    def test_the_batch_of_a_ratio_is_that_ratio(self, C: float, ratio: float) -> None:
        laws = PlanLaws(kaplan=[OWN])
        by_ratio = plan(C=C, batch_ratio=ratio, laws=laws)
        assert kaplan(by_ratio).B is not None
        by_batch = plan(C=C, B=kaplan(by_ratio).B.mid, laws=laws)  # type: ignore[union-attr]
        assert by_batch.batch_ratio == pytest.approx(ratio, rel=1e-6)
        assert kaplan(by_batch).N.mid == pytest.approx(kaplan(by_ratio).N.mid, rel=1e-6)
        asked = plan(L=kaplan(by_batch).L.mid, B=by_batch.B, laws=laws)
        assert kaplan(asked).C.mid == pytest.approx(C, rel=1e-6)

    @given(between(1e-9, 1e45), between(1e-9, 1e45), between(1e-9, 1e45))
    def test_whatever_is_asked_is_answered(self, x: float, B: float, data: float) -> None:
        for got in (plan(C=x, B=B, data=data), plan(L=x, B=B, data=data)):
            text = str(got)
            assert "nan" not in text
            assert "inf" not in text.replace("confirm", "")

    def test_a_batch_and_a_ratio(self) -> None:
        with pytest.raises(ValueError, match=r"^Expected B or batch_ratio"):
            plan(C=1e20, B=1e6, batch_ratio=2.0)


class TestData:
    def test_how_far_a_model_overfits_on_the_data_at_hand(self) -> None:
        got = plan(C=1e20, data=1e9)
        answer = kaplan(got)
        assert answer.passes is not None
        assert answer.passes.mid == pytest.approx(answer.D.mid / 1e9)
        assert answer.overfitting is not None
        assert answer.overfitting.mid == pytest.approx(float(KAPLAN_TABLE_2.overfitting(answer.N.mid, 1e9)))
        assert "passes over the data" in str(got)
        assert "stay within 2 % (Eq. 4.4)" in str(got)

    def test_the_data_needed_are_enough(self) -> None:
        needed = kaplan(plan(C=1e20)).data_needed
        assert needed is not None
        got = plan(C=1e20, data=1.001 * max(needed.high, kaplan(plan(C=1e20)).D.high))
        assert kaplan(got).overfitting.mid < 0.02  # type: ignore[union-attr]
        assert "stay within" not in str(got)


class TestLawsOfOneBatch:
    LAW = HoffmannND(0.0, 400.0, 2000.0, 0.35, 0.37)

    def test_both_columns_are_at_that_batch(self) -> None:
        laws = PlanLaws(kaplan=[self.LAW], hoffmann=[BESIROGLU], batch=1e6, source="mine")
        got = plan(C=1e20, laws=laws)
        for answer, law in ((kaplan(got), self.LAW), (hoffmann(got), BESIROGLU)):
            assert answer.N.mid == pytest.approx(float(law.N_opt(1e20)))
            assert answer.S is not None
            assert answer.S.mid == pytest.approx(answer.D.mid / 1e6)
        assert got.trade == ()
        assert got.batch_ratio is None
        assert str(got).startswith("Plan for C = 1e20 FLOP (1.16 PF-days), at 1 000 000 tokens per step")
        assert "both are fitted to the same runs" in str(got)
        assert plan(C=1e20, B=1e6, laws=laws).kaplan == got.kaplan

    def test_other_batches_are_refused(self) -> None:
        laws = PlanLaws(kaplan=[self.LAW], batch=1e6)
        with pytest.raises(ValueError, match=r"^Expected B = 1e\+06, at which the laws hold"):
            plan(C=1e20, B=2e6, laws=laws)
        with pytest.raises(ValueError, match=r"^Expected no batch_ratio"):
            plan(C=1e20, batch_ratio=2.0, laws=laws)
        with pytest.raises(ValueError, match=r"^Expected the batch size that Kaplan's laws hold at"):
            PlanLaws(kaplan=[self.LAW])
        with pytest.raises(ValueError, match=r"^Expected batch above 0"):
            PlanLaws(kaplan=[self.LAW], batch=0.0)
