# Types for the compiled form of frames.py: see setup.py.
cimport cython

cdef Py_ssize_t WHOLE_TEXT, WHOLE_BINARY

@cython.locals(
    size=Py_ssize_t,
    last=Py_ssize_t,
    kind=Py_ssize_t,
    length=Py_ssize_t,
    start=Py_ssize_t,
    stop=Py_ssize_t,
    payload=bytes,
)
cdef Py_ssize_t _ordinary(
    bytes data, Py_ssize_t position, Py_ssize_t max_size, list messages, list binary
) except -1
