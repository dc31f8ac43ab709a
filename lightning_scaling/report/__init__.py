"""What a person looks at: pictures of curves, forecasts and schedules."""
