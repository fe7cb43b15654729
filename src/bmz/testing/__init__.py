"""The public test kit: fake backend, package factory, backend contract, strategies."""
