"""How good are the forecasts? Tools that score them on finished training curves; not part of the installed package."""
