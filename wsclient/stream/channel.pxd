# Types for the compiled form of channel.py: see setup.py.
cimport cython

cdef class Channel:
    cdef public object _began, _certain, _first, _last, _last_repeat, _open_gaps, _recent
    cdef public object _suspected, counted, data_at, expected, gaps, last_received_at, late
    cdef public object is_merged, late_or_duplicate, latest, missed, name, refreshed

cdef class Batch:
    cdef public object arrival, decoded, done, heads, kind, payloads, recipe, shape

@cython.locals(
    channel=Channel,
    messages=list,
    style=Py_ssize_t,
    index=Py_ssize_t,
    counter=Py_ssize_t,
)
cpdef tuple accept_ordinary(channels, batch, aliases, count)

@cython.locals(channel=Channel)
cdef _accept_flat(channels, batch, shape, flat, list messages)

@cython.locals(channel=Channel)
cdef _accept_several(channels, parts, aliases, batch, raw, list messages)
