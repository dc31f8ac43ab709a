"""Which model, how many steps, which batch, how many tokens: for a budget of compute or time, or for a target loss."""

from lightning_scaling.planner.answer import Answer, Trade
from lightning_scaling.planner.ask import Plan, plan
from lightning_scaling.planner.sources import PUBLISHED, Explored, PlanLaws
from lightning_scaling.planner.spread import Spread

__all__ = ["PUBLISHED", "Answer", "Explored", "Plan", "PlanLaws", "Spread", "Trade", "plan"]
