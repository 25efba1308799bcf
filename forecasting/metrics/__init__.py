"""Metrics: task outputs -> numbers, in float64 on the host.

Each task metric gives one value per clip and sample; `aggregate` averages
them. `vectors` turns outputs into rows that `frechet`, `variance` and `proper`
compare with the truth, and `bootstrap` puts intervals over clips on all of
them. NaN means "no value" throughout: such entries are left out of the means
and counted.
"""
