"""The wire's edge of processes: requests are parsed here, answers packed; the rest of the domain knows neither."""
