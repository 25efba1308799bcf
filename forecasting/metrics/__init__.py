"""Metrics: task outputs -> numbers, in float64 on the host.

Each task metric gives one value per clip and sample; `aggregate` averages
them. `vectors` turns outputs into rows that `frechet`, `variance` and `proper`
compare with the truth, and `bootstrap` puts intervals over clips on all of
them. NaN means "no value" throughout, since the truth has nothing to score:
such entries are left out of the means and counted. A forecast that is NaN or
infinite is another matter: it is counted too, but no score that would use it
has a value.
"""
