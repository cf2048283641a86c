"""Local alerts: rules over the agent's own series, evaluated with Prometheus's semantics and no server.

series.py remembers what a rule needs, functions.py is the arithmetic, expressions.py makes a rule's vector of values (and
the same as PromQL), states.py turns it into alerts, notify.py tells others, promrules.py writes the rules out.
"""
