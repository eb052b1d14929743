"""Diagnosis of a connection: each step from this machine to a venue, timed, with advice.

``examination.py`` runs it, and returns what ``report.py`` defines. ``attempt.py`` follows the
client's connect; ``connecting.py`` makes the checks of that, ``connected.py`` those of the open
connection. ``aside.py`` does what no client does. ``advice.py`` has the texts for failures, and
``case.py`` what the checks share. ``legs.py`` finds the routes of a venue that channels need, and
``running.py`` says what is examined.
"""
