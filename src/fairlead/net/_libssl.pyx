# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The libssl that Python already loaded, called without Python in between. Leaves only: what to do is `tls.py`'s business.

`dlopen` of the `_ssl` extension and `dlsym` on that handle find libssl and libcrypto through `_ssl`'s own dependencies, so
there is never a second OpenSSL in the process. An interpreter whose `_ssl` hides its symbols (a static build) makes `load`
answer False, and `tls.py` falls back to `ssl.SSLObject`.

Rules of this file
- `SSL*` is borrowed from an `_ssl._SSLSocket` made by `SSLContext.wrap_bio`: an own `SSL_new` on Python's `SSL_CTX` crashes
  as soon as Python's SNI, key log or message callbacks run, because they look for their owner. The owner stays alive as long
  as the Channel and is asked for facts (cipher, version, peer), never for I/O.
- Two pointers are read from structs that are not public (`SSL_CTX*` after the head of `_SSLContext`, `SSL*` one pointer
  later in `_SSLSocket`). `tls.py` allows that only for known layouts, and `adopt` checks that the SSL points back.
- One BIO both ways. It reads from the bytes of the running call and writes into the bytes object being made, or into a
  buffer of the thread that is emptied before the call returns. Nothing stays between calls: an idle connection has no buffer.
- OpenSSL's error queue belongs to the thread: made empty before every call, read only after a failure.
- No Python object is touched inside a BIO callback; the ticket callback is plain C.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

cimport cython

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject** object, Py_ssize_t size) except -1
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* data, Py_ssize_t size) except NULL
    void Py_DECREF_bytes "Py_DECREF"(PyObject* object)

cdef extern from "dlfcn.h" nogil:
    void* dlopen(const char* path, int flags)
    void* dlsym(void* handle, const char* name)
    const int RTLD_NOW

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #define FAIRLEAD_THREAD __declspec(thread)
    #else
    #define FAIRLEAD_THREAD __thread
    #endif
    /* Ciphertext of the call that runs now. One per thread, because worker threads run OpenSSL at the same time. */
    static FAIRLEAD_THREAD char *fairlead_spill = 0;
    static FAIRLEAD_THREAD size_t fairlead_spill_room = 0;
    static FAIRLEAD_THREAD size_t fairlead_spill_used = 0;
    """
    char* fairlead_spill
    size_t fairlead_spill_room
    size_t fairlead_spill_used

ctypedef void* P
ctypedef int (*BioWrite)(P, const char*, int) noexcept
ctypedef int (*BioRead)(P, char*, int) noexcept
ctypedef long (*BioCtrl)(P, int, long, P) noexcept
ctypedef int (*AlpnChoose)(P, const unsigned char**, unsigned char*, const unsigned char*, unsigned int, P) noexcept
ctypedef int (*TicketKey)(P, unsigned char*, unsigned char*, P, P, int) noexcept
ctypedef void (*ExFree)(P, P, P, int, long, P) noexcept

cdef struct Param:               # OSSL_PARAM (openssl/core.h, part of the stable ABI of OpenSSL 3)
    const char* key
    unsigned int kind
    void* data
    size_t size
    size_t back

cdef struct Keys:                # the ticket keys of one SSL_CTX, newest first; each 16 name, 32 HMAC, 32 AES
    int count
    unsigned char key[4][80]

cdef struct SocketHead:
    PyObject head
    PyObject* socket
    P ssl

cdef struct ContextHead:
    PyObject head
    P ctx

cdef void (*SSL_set_bio)(P, P, P) noexcept
cdef int (*SSL_read)(P, void*, int) noexcept
cdef int (*SSL_write)(P, const void*, int) noexcept
cdef int (*SSL_pending)(P) noexcept
cdef int (*SSL_do_handshake)(P) noexcept
cdef int (*SSL_get_error)(P, int) noexcept
cdef int (*SSL_shutdown)(P) noexcept
cdef void (*SSL_set_shutdown)(P, int) noexcept
cdef long (*SSL_ctrl)(P, int, long, void*) noexcept
cdef int (*SSL_version)(P) noexcept
cdef long (*SSL_get_verify_result)(P) noexcept
cdef P (*SSL_get_SSL_CTX)(P) noexcept
cdef P (*SSL_get1_session)(P) noexcept
cdef int (*SSL_set_session)(P, P) noexcept
cdef void (*SSL_SESSION_free)(P) noexcept
cdef int (*SSL_SESSION_is_resumable)(P) noexcept
cdef long (*SSL_CTX_ctrl)(P, int, long, void*) noexcept
cdef void (*SSL_CTX_set_alpn_select_cb)(P, AlpnChoose, P) noexcept
cdef int (*SSL_CTX_set_tlsext_ticket_key_evp_cb)(P, TicketKey) noexcept
cdef int (*SSL_CTX_set_ex_data)(P, int, P) noexcept
cdef P (*SSL_CTX_get_ex_data)(P, int) noexcept
cdef int (*SSL_CTX_set_ciphersuites)(P, const char*) noexcept
cdef P (*SSL_load_client_CA_file)(const char*) noexcept
cdef void (*SSL_CTX_set_client_CA_list)(P, P) noexcept
cdef int (*CRYPTO_get_ex_new_index)(int, long, P, P, P, ExFree) noexcept
cdef P (*BIO_meth_new)(int, const char*) noexcept
cdef int (*BIO_meth_set_write)(P, BioWrite) noexcept
cdef int (*BIO_meth_set_read)(P, BioRead) noexcept
cdef int (*BIO_meth_set_ctrl)(P, BioCtrl) noexcept
cdef int (*BIO_get_new_index)() noexcept
cdef P (*BIO_new)(P) noexcept
cdef void (*BIO_set_data)(P, P) noexcept
cdef P (*BIO_get_data)(P) noexcept
cdef void (*BIO_set_init)(P, int) noexcept
cdef void (*BIO_set_flags)(P, int) noexcept
cdef void (*BIO_clear_flags)(P, int) noexcept
cdef void (*ERR_clear_error)() noexcept
cdef unsigned long (*ERR_get_error)() noexcept
cdef unsigned long (*ERR_peek_error)() noexcept
cdef const char* (*ERR_reason_error_string)(unsigned long) noexcept
cdef const char* (*X509_verify_cert_error_string)(long) noexcept
cdef P (*SSL_CTX_get_cert_store)(P) noexcept
cdef P (*SSL_CTX_get0_param)(P) noexcept
cdef int (*SSL_CTX_get_security_level)(P) noexcept
cdef P (*X509_STORE_CTX_new)() noexcept
cdef void (*X509_STORE_CTX_free)(P) noexcept
cdef int (*X509_STORE_CTX_init)(P, P, P, P) noexcept
cdef int (*X509_STORE_CTX_set_default)(P, const char*) noexcept
cdef P (*X509_STORE_CTX_get0_param)(P) noexcept
cdef int (*X509_STORE_CTX_get_error)(P) noexcept
cdef int (*X509_VERIFY_PARAM_set1)(P, P) noexcept
cdef void (*X509_VERIFY_PARAM_set_auth_level)(P, int) noexcept
cdef int (*X509_verify_cert)(P) noexcept
cdef P (*d2i_X509)(P*, const unsigned char**, long) noexcept
cdef void (*X509_free)(P) noexcept
cdef P (*OPENSSL_sk_new_null)() noexcept
cdef int (*OPENSSL_sk_push)(P, P) noexcept
cdef void (*OPENSSL_sk_free)(P) noexcept
cdef int (*RAND_bytes)(unsigned char*, int) noexcept
cdef P (*EVP_aes_256_cbc)() noexcept
cdef int (*EVP_EncryptInit_ex)(P, P, P, const unsigned char*, const unsigned char*) noexcept
cdef int (*EVP_DecryptInit_ex)(P, P, P, const unsigned char*, const unsigned char*) noexcept
cdef int (*EVP_MAC_CTX_set_params)(P, const Param*) noexcept

cdef P METHOD = NULL             # our BIO_METHOD, made once, never freed
cdef int KEYS_INDEX = -1         # where an SSL_CTX keeps its Keys
cdef P HANDLE = NULL
cdef dict ALPN_LISTS = {}        # wire form -> itself: OpenSSL keeps a pointer into it

cdef enum:
    MODES = 0x1 | 0x2 | 0x10         # PARTIAL_WRITE (one record per call, we loop), MOVING_WRITE_BUFFER, RELEASE_BUFFERS


cdef P symbol(str name, bint needed=True) except? NULL:
    cdef P found = dlsym(HANDLE, name.encode())
    if found == NULL and needed:
        raise ImportError(f"{name} is not visible: Python's ssl module hides its OpenSSL")
    return found


def load(str path) -> bool:
    """Bind to the OpenSSL behind the `_ssl` extension at `path`. False when it is hidden or too old; safe to repeat."""
    global HANDLE, METHOD, KEYS_INDEX
    if METHOD != NULL:
        return True
    HANDLE = dlopen(path.encode(), RTLD_NOW)
    if HANDLE == NULL:
        return False
    try:
        bind_ssl()
        bind_context()
        bind_crypto()
        bind_x509()
    except ImportError:
        return False
    KEYS_INDEX = CRYPTO_get_ex_new_index(1, 0, NULL, NULL, NULL, forget_keys)  # 1: CRYPTO_EX_INDEX_SSL_CTX
    METHOD = BIO_meth_new(BIO_get_new_index() | 0x0400, b"fairlead")          # 0x0400: BIO_TYPE_SOURCE_SINK
    if METHOD == NULL:
        return False
    BIO_meth_set_write(METHOD, bio_write)
    BIO_meth_set_read(METHOD, bio_read)
    BIO_meth_set_ctrl(METHOD, bio_ctrl)
    return True


cdef int bind_ssl() except -1:
    global SSL_set_bio, SSL_read, SSL_write, SSL_pending, SSL_do_handshake, SSL_get_error, SSL_shutdown, SSL_set_shutdown
    global SSL_ctrl, SSL_version, SSL_get_verify_result, SSL_get_SSL_CTX
    global SSL_get1_session, SSL_set_session, SSL_SESSION_free, SSL_SESSION_is_resumable
    SSL_set_bio = <void (*)(P, P, P) noexcept>symbol("SSL_set_bio")
    SSL_read = <int (*)(P, void*, int) noexcept>symbol("SSL_read")
    SSL_write = <int (*)(P, const void*, int) noexcept>symbol("SSL_write")
    SSL_pending = <int (*)(P) noexcept>symbol("SSL_pending")
    SSL_do_handshake = <int (*)(P) noexcept>symbol("SSL_do_handshake")
    SSL_get_error = <int (*)(P, int) noexcept>symbol("SSL_get_error")
    SSL_shutdown = <int (*)(P) noexcept>symbol("SSL_shutdown")
    SSL_set_shutdown = <void (*)(P, int) noexcept>symbol("SSL_set_shutdown")
    SSL_ctrl = <long (*)(P, int, long, void*) noexcept>symbol("SSL_ctrl")
    SSL_version = <int (*)(P) noexcept>symbol("SSL_version")
    SSL_get_verify_result = <long (*)(P) noexcept>symbol("SSL_get_verify_result")
    SSL_get_SSL_CTX = <P (*)(P) noexcept>symbol("SSL_get_SSL_CTX")
    SSL_get1_session = <P (*)(P) noexcept>symbol("SSL_get1_session")
    SSL_set_session = <int (*)(P, P) noexcept>symbol("SSL_set_session")
    SSL_SESSION_free = <void (*)(P) noexcept>symbol("SSL_SESSION_free")
    SSL_SESSION_is_resumable = <int (*)(P) noexcept>symbol("SSL_SESSION_is_resumable")
    return 0


cdef int bind_context() except -1:
    global SSL_CTX_ctrl, SSL_CTX_set_alpn_select_cb, SSL_CTX_set_tlsext_ticket_key_evp_cb, SSL_CTX_set_ex_data
    global SSL_CTX_set_ciphersuites
    global SSL_CTX_get_ex_data, SSL_load_client_CA_file, SSL_CTX_set_client_CA_list, CRYPTO_get_ex_new_index
    SSL_CTX_ctrl = <long (*)(P, int, long, void*) noexcept>symbol("SSL_CTX_ctrl")
    SSL_CTX_set_alpn_select_cb = <void (*)(P, AlpnChoose, P) noexcept>symbol("SSL_CTX_set_alpn_select_cb")
    SSL_CTX_set_tlsext_ticket_key_evp_cb = <int (*)(P, TicketKey) noexcept>symbol("SSL_CTX_set_tlsext_ticket_key_evp_cb")
    SSL_CTX_set_ex_data = <int (*)(P, int, P) noexcept>symbol("SSL_CTX_set_ex_data")
    SSL_CTX_get_ex_data = <P (*)(P, int) noexcept>symbol("SSL_CTX_get_ex_data")
    SSL_CTX_set_ciphersuites = <int (*)(P, const char*) noexcept>symbol("SSL_CTX_set_ciphersuites")
    SSL_load_client_CA_file = <P (*)(const char*) noexcept>symbol("SSL_load_client_CA_file")
    SSL_CTX_set_client_CA_list = <void (*)(P, P) noexcept>symbol("SSL_CTX_set_client_CA_list")
    CRYPTO_get_ex_new_index = <int (*)(int, long, P, P, P, ExFree) noexcept>symbol("CRYPTO_get_ex_new_index")
    return 0


cdef int bind_crypto() except -1:
    global BIO_meth_new, BIO_meth_set_write, BIO_meth_set_read, BIO_meth_set_ctrl, BIO_get_new_index, BIO_new, BIO_set_data
    global BIO_get_data, BIO_set_init, BIO_set_flags, BIO_clear_flags, ERR_clear_error, ERR_get_error, ERR_reason_error_string
    global ERR_peek_error
    global X509_verify_cert_error_string, RAND_bytes, EVP_aes_256_cbc, EVP_EncryptInit_ex, EVP_DecryptInit_ex
    global EVP_MAC_CTX_set_params
    BIO_meth_new = <P (*)(int, const char*) noexcept>symbol("BIO_meth_new")
    BIO_meth_set_write = <int (*)(P, BioWrite) noexcept>symbol("BIO_meth_set_write")
    BIO_meth_set_read = <int (*)(P, BioRead) noexcept>symbol("BIO_meth_set_read")
    BIO_meth_set_ctrl = <int (*)(P, BioCtrl) noexcept>symbol("BIO_meth_set_ctrl")
    BIO_get_new_index = <int (*)() noexcept>symbol("BIO_get_new_index")
    BIO_new = <P (*)(P) noexcept>symbol("BIO_new")
    BIO_set_data = <void (*)(P, P) noexcept>symbol("BIO_set_data")
    BIO_get_data = <P (*)(P) noexcept>symbol("BIO_get_data")
    BIO_set_init = <void (*)(P, int) noexcept>symbol("BIO_set_init")
    BIO_set_flags = <void (*)(P, int) noexcept>symbol("BIO_set_flags")
    BIO_clear_flags = <void (*)(P, int) noexcept>symbol("BIO_clear_flags")
    ERR_clear_error = <void (*)() noexcept>symbol("ERR_clear_error")
    ERR_get_error = <unsigned long (*)() noexcept>symbol("ERR_get_error")
    ERR_peek_error = <unsigned long (*)() noexcept>symbol("ERR_peek_error")
    ERR_reason_error_string = <const char* (*)(unsigned long) noexcept>symbol("ERR_reason_error_string")
    X509_verify_cert_error_string = <const char* (*)(long) noexcept>symbol("X509_verify_cert_error_string")
    RAND_bytes = <int (*)(unsigned char*, int) noexcept>symbol("RAND_bytes")
    EVP_aes_256_cbc = <P (*)() noexcept>symbol("EVP_aes_256_cbc")
    EVP_EncryptInit_ex = <int (*)(P, P, P, const unsigned char*, const unsigned char*) noexcept>symbol("EVP_EncryptInit_ex")
    EVP_DecryptInit_ex = <int (*)(P, P, P, const unsigned char*, const unsigned char*) noexcept>symbol("EVP_DecryptInit_ex")
    EVP_MAC_CTX_set_params = <int (*)(P, const Param*) noexcept>symbol("EVP_MAC_CTX_set_params")
    return 0


cdef int bind_x509() except -1:
    global SSL_CTX_get_cert_store, SSL_CTX_get0_param, SSL_CTX_get_security_level, X509_STORE_CTX_new, X509_STORE_CTX_free
    global X509_STORE_CTX_init, X509_STORE_CTX_set_default, X509_STORE_CTX_get0_param, X509_STORE_CTX_get_error
    global X509_VERIFY_PARAM_set1, X509_VERIFY_PARAM_set_auth_level, X509_verify_cert, d2i_X509, X509_free
    global OPENSSL_sk_new_null, OPENSSL_sk_push, OPENSSL_sk_free
    SSL_CTX_get_cert_store = <P (*)(P) noexcept>symbol("SSL_CTX_get_cert_store")
    SSL_CTX_get0_param = <P (*)(P) noexcept>symbol("SSL_CTX_get0_param")
    SSL_CTX_get_security_level = <int (*)(P) noexcept>symbol("SSL_CTX_get_security_level")
    X509_STORE_CTX_new = <P (*)() noexcept>symbol("X509_STORE_CTX_new")
    X509_STORE_CTX_free = <void (*)(P) noexcept>symbol("X509_STORE_CTX_free")
    X509_STORE_CTX_init = <int (*)(P, P, P, P) noexcept>symbol("X509_STORE_CTX_init")
    X509_STORE_CTX_set_default = <int (*)(P, const char*) noexcept>symbol("X509_STORE_CTX_set_default")
    X509_STORE_CTX_get0_param = <P (*)(P) noexcept>symbol("X509_STORE_CTX_get0_param")
    X509_STORE_CTX_get_error = <int (*)(P) noexcept>symbol("X509_STORE_CTX_get_error")
    X509_VERIFY_PARAM_set1 = <int (*)(P, P) noexcept>symbol("X509_VERIFY_PARAM_set1")
    X509_VERIFY_PARAM_set_auth_level = <void (*)(P, int) noexcept>symbol("X509_VERIFY_PARAM_set_auth_level")
    X509_verify_cert = <int (*)(P) noexcept>symbol("X509_verify_cert")
    d2i_X509 = <P (*)(P*, const unsigned char**, long) noexcept>symbol("d2i_X509")
    X509_free = <void (*)(P) noexcept>symbol("X509_free")
    OPENSSL_sk_new_null = <P (*)() noexcept>symbol("OPENSSL_sk_new_null")
    OPENSSL_sk_push = <int (*)(P, P) noexcept>symbol("OPENSSL_sk_push")
    OPENSSL_sk_free = <void (*)(P) noexcept>symbol("OPENSSL_sk_free")
    return 0


# ---- the BIO ---------------------------------------------------------------------------------------------------------

cdef int bio_read(P bio, char* into, int size) noexcept:
    cdef Wire* wire = <Wire*>BIO_get_data(bio)
    BIO_clear_flags(bio, 0x0F)
    if wire == NULL:
        return -1
    if wire.left == 0:
        BIO_set_flags(bio, 0x09)             # READ | SHOULD_RETRY
        return -1
    if size > wire.left:
        size = <int>wire.left
    memcpy(into, wire.feed, size)
    wire.feed += size
    wire.left -= size
    return size


cdef int bio_write(P bio, const char* data, int size) noexcept:
    global fairlead_spill, fairlead_spill_room, fairlead_spill_used
    cdef Wire* wire = <Wire*>BIO_get_data(bio)
    cdef size_t room
    cdef char* larger
    BIO_clear_flags(bio, 0x0F)
    if wire == NULL or size < 0:
        return -1
    if wire.room - wire.used >= size and fairlead_spill_used == 0:   # once spilled, stay there: order
        memcpy(wire.place + wire.used, data, size)
        wire.used += size
        return size
    if fairlead_spill_room - fairlead_spill_used < <size_t>size:
        room = (fairlead_spill_used + size) * 2 + 4096
        larger = <char*>realloc(fairlead_spill, room)
        if larger == NULL:
            return -1
        fairlead_spill = larger
        fairlead_spill_room = room
    memcpy(fairlead_spill + fairlead_spill_used, data, size)
    fairlead_spill_used += size
    return size


cdef long bio_ctrl(P bio, int command, long number, P pointer) noexcept:
    return 1 if command == 11 else 0         # 11: FLUSH


cdef inline void clean() noexcept:
    """An empty error queue. Looking costs a fifth of clearing its sixteen entries."""
    if ERR_peek_error():
        ERR_clear_error()


# ---- one connection ------------------------------------------------------------------------------------------------

class Broken(Exception):
    """OpenSSL refused. `args` is (reason in OpenSSL's words, its X.509 verification code)."""


@cython.final
@cython.no_gc_clear
cdef class Channel:
    """Ciphertext in, plaintext out and back, on the SSL of `owner` (an `_ssl._SSLSocket` whose context is `context`)."""

    def __init__(self, owner, context):
        if METHOD == NULL:
            raise RuntimeError("load() first")
        cdef P ssl = (<SocketHead*><PyObject*>owner).ssl
        if ssl == NULL or SSL_get_SSL_CTX(ssl) != (<ContextHead*><PyObject*>context).ctx:
            raise RuntimeError("the ssl module has another layout than expected")
        self.owner = owner
        self.bio = BIO_new(METHOD)
        if self.bio == NULL:
            raise MemoryError
        BIO_set_data(self.bio, &self.wire)
        BIO_set_init(self.bio, 1)
        self.ssl = ssl
        SSL_set_bio(ssl, self.bio, self.bio)
        SSL_ctrl(ssl, 33, MODES, NULL)   # SSL_CTRL_MODE

    def __dealloc__(self):
        if self.ssl != NULL:
            BIO_set_data(self.bio, NULL)
            SSL_set_shutdown(self.ssl, 3)    # or OpenSSL takes the session for broken and forgets it
            self.ssl = NULL

    cpdef free(self):
        """Give everything back now. The channel is dead afterwards; what `take` would have given stays."""
        if self.ssl != NULL:
            BIO_set_data(self.bio, NULL)
            SSL_set_shutdown(self.ssl, 3)
            self.ssl = NULL
            self.broken = True
            self.owner = None

    cdef int handshake(self) except -1:
        cdef int code
        clean()
        code = SSL_do_handshake(self.ssl)
        if code == 1:
            self.done = True
            return 1
        if SSL_get_error(self.ssl, code) == 2:   # WANT_READ
            return 0
        return self.fail(code)

    cdef int fail(self, int code) except -1:
        cdef unsigned long error = ERR_get_error()
        cdef const char* text = ERR_reason_error_string(error) if error else NULL
        cdef long verdict = SSL_get_verify_result(self.ssl)
        ERR_clear_error()
        self.broken = True
        self.spill()                             # the alert
        raise Broken((<bytes>text).decode("utf-8", "replace") if text != NULL else "unexpected end of the connection", verdict)

    cdef int keep(self, bytes piece) except -1:
        if self._out is None:
            self._out = piece
        elif self._more is None:
            self._more = [piece]
        else:
            self._more.append(piece)
        return 0

    cdef int spill(self) except -1:
        """Move what this call produced out of the thread's buffer, and let a buffer that grew large go."""
        global fairlead_spill, fairlead_spill_room, fairlead_spill_used
        cdef size_t used = fairlead_spill_used
        if used == 0:
            return 0
        fairlead_spill_used = 0
        self.keep(PyBytes_FromStringAndSize(fairlead_spill, used))
        if fairlead_spill_room > 1 << 18:
            free(fairlead_spill)
            fairlead_spill = NULL
            fairlead_spill_room = 0
        return 0

    cpdef bytes feed(self, bytes data):
        """Take ciphertext, return all plaintext that it completes. `closed` is set when close_notify came."""
        cdef Py_ssize_t room, used = 0
        cdef int got
        cdef PyObject* plain
        if self.broken or self.closed:
            return b""
        self.wire.feed = PyBytes_AS_STRING(data)
        self.wire.left = PyBytes_GET_SIZE(data)
        try:
            if not self.done:
                if self.handshake() == 0:
                    return b""
                if self.wire.left == 0:
                    return b""
            room = self.wire.left - 21           # a TLS 1.3 record is 22 bytes longer than what is in it
            if room < 64:
                room = 64
            plain = new_bytes(NULL, room)
            while True:
                clean()
                got = SSL_read(self.ssl, PyBytes_AS_STRING(<object>plain) + used, <int>min(room - used, 1 << 30))
                if got <= 0:
                    break
                used += got
                if self.wire.left == 0 and SSL_pending(self.ssl) == 0:
                    break                        # all read, at the end of a record: nothing can be waiting
                if room - used < 1024:
                    room = used + SSL_pending(self.ssl) + self.wire.left + 1024
                    _PyBytes_Resize(&plain, room)
            if got <= 0:
                got = SSL_get_error(self.ssl, got)
                if got == 6:                     # ZERO_RETURN
                    self.closed = True
                elif got != 2 and got != 3:
                    Py_DECREF_bytes(plain)
                    self.fail(got)
            if used == 0:
                Py_DECREF_bytes(plain)
                return b""
            if used != room:
                _PyBytes_Resize(&plain, used)
            result = <bytes><object>plain
            Py_DECREF_bytes(plain)
            return result
        finally:
            self.wire.left = 0
            self.wire.feed = NULL
            if fairlead_spill_used:
                self.spill()

    cpdef int write(self, bytes data) except -1:
        """Encrypt `data` into what `take` gives next. Before the handshake is done nothing may be written."""
        cdef const char* rest = PyBytes_AS_STRING(data)
        cdef Py_ssize_t left = PyBytes_GET_SIZE(data)
        cdef PyObject* sealed
        cdef int got
        if left == 0:
            return 0
        sealed = new_bytes(NULL, left + (left // 16384 + 1) * 32)
        self.wire.place = PyBytes_AS_STRING(<object>sealed)
        self.wire.room = PyBytes_GET_SIZE(<object>sealed)
        self.wire.used = 0
        try:
            while left > 0:
                clean()
                got = SSL_write(self.ssl, rest, <int>min(left, 1 << 30))
                if got <= 0:
                    break
                rest += got
                left -= got
        finally:
            got = 0 if left == 0 else got
            self.wire.place = NULL
            self.wire.room = 0
        if self.wire.used:
            if self.wire.used != PyBytes_GET_SIZE(<object>sealed):
                _PyBytes_Resize(&sealed, self.wire.used)
            self.keep(<bytes><object>sealed)
        Py_DECREF_bytes(sealed)
        self.spill()
        if left:
            self.fail(got)
        return 0

    cpdef bytes take(self):
        """Ciphertext for the peer, b"" when there is none."""
        cdef bytes out = self._out
        if out is None:
            return b""
        self._out = None
        if self._more is not None:
            self._more.insert(0, out)
            out = b"".join(self._more)
            self._more = None
        return out

    cpdef bye(self):
        """Queue close_notify, once."""
        if self.broken or self.said_bye or not self.done:
            return
        self.said_bye = True
        clean()
        SSL_shutdown(self.ssl)
        ERR_clear_error()
        self.spill()

    def start(self, Session session=None):
        """A client's first flight, which offers to take up `session`."""
        if session is not None:
            SSL_set_session(self.ssl, session.session)
        self.handshake()
        self.spill()

    cpdef long verify_result(self):
        return SSL_get_verify_result(self.ssl) if self.ssl != NULL else 0


    cpdef Session session(self):
        """The newest session, None when there is none to take up. (`SSLObject.session` leaks a copy with every look.)"""
        cdef Session found
        cdef P session
        if self.ssl == NULL or not self.done:
            return None
        session = SSL_get1_session(self.ssl)
        if session == NULL:
            return None
        found = Session.__new__(Session)
        found.session = session
        return found if SSL_SESSION_is_resumable(session) else None


@cython.final
cdef class Session:
    """What a client needs to take up a session again; may be used on any thread."""

    def __dealloc__(self):
        if self.session != NULL:
            SSL_SESSION_free(self.session)


def verify_text(long code) -> str:
    """OpenSSL's words for a verification code."""
    return (<bytes>X509_verify_cert_error_string(code)).decode("ascii", "replace")


# ---- contexts ------------------------------------------------------------------------------------------------------

cdef P pointer(context) except NULL:
    cdef P ctx = (<ContextHead*><PyObject*>context).ctx
    if ctx == NULL:
        raise RuntimeError("a context without SSL_CTX")
    return ctx


def set_groups(context, str names) -> bool:
    """Key exchange groups in order of preference, colons between; False when this OpenSSL does not know one of them."""
    ERR_clear_error()
    cdef bytes text = names.encode()
    cdef bint known = SSL_CTX_ctrl(pointer(context), 92, 0, PyBytes_AS_STRING(text)) == 1   # SET_GROUPS_LIST
    ERR_clear_error()
    return known


def set_suites(context, str names) -> bool:
    """TLS 1.3 cipher suites in order of preference, colons between."""
    ERR_clear_error()
    cdef bytes text = names.encode()
    cdef bint known = SSL_CTX_set_ciphersuites(pointer(context), PyBytes_AS_STRING(text)) == 1
    ERR_clear_error()
    return known


def no_session_cache(context) -> None:
    """Tickets only: a cache inside one worker helps nobody and grows."""
    SSL_CTX_ctrl(pointer(context), 44, 0, NULL)       # SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF


def send_client_ca_names(context, str path) -> bool:
    """Tell clients which CAs are accepted (RFC 8446 4.2.4), so that one with several certificates picks the right one."""
    ERR_clear_error()
    cdef P names = SSL_load_client_CA_file(path.encode())
    ERR_clear_error()
    if names == NULL:
        return False
    SSL_CTX_set_client_CA_list(pointer(context), names)
    return True


cdef P certificate_of(bytes der) except? NULL:
    """A certificate; NULL for bytes that are none."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(der)
    cdef const unsigned char* end = at + PyBytes_GET_SIZE(der)
    cdef P found = d2i_X509(NULL, &at, <long>PyBytes_GET_SIZE(der))
    if found != NULL and at != end:
        X509_free(found)
        return NULL
    return found


def verify_client(context, list chain) -> int:
    """What OpenSSL thinks of a client that showed these certificates (DER, its own first), as it would of one in a handshake with a
    server of this context: 0, or an X.509 verification code; -1 for bytes that are no certificate.
    """
    if METHOD == NULL:
        raise RuntimeError("load() first")
    cdef P ctx = pointer(context)
    cdef list made = []
    cdef bytes der
    cdef P one = NULL
    cdef P others = NULL
    cdef P judge = NULL
    cdef P param = NULL
    cdef int code = -1
    try:
        for der in chain:
            one = certificate_of(der)
            if one == NULL:
                return -1
            made.append(<size_t>one)
        others = OPENSSL_sk_new_null()
        judge = X509_STORE_CTX_new()
        if not made or others == NULL or judge == NULL:
            return -1
        for number in made[1:]:
            if OPENSSL_sk_push(others, <P><size_t>number) <= 0:
                raise MemoryError
        if X509_STORE_CTX_init(judge, SSL_CTX_get_cert_store(ctx), <P><size_t>made[0], others) != 1:
            raise MemoryError
        param = X509_STORE_CTX_get0_param(judge)
        X509_VERIFY_PARAM_set_auth_level(param, SSL_CTX_get_security_level(ctx))
        X509_STORE_CTX_set_default(judge, b"ssl_client")
        X509_VERIFY_PARAM_set1(param, SSL_CTX_get0_param(ctx))
        if X509_verify_cert(judge) == 1:
            code = 0
        else:
            code = X509_STORE_CTX_get_error(judge) or 1
        return code
    finally:
        if judge != NULL:
            X509_STORE_CTX_free(judge)
        if others != NULL:
            OPENSSL_sk_free(others)
        for number in made:
            X509_free(<P><size_t>number)
        ERR_clear_error()


def set_alpn(context, bytes wire) -> None:
    """Protocols a server takes, in its order, in wire form; a client that offers others only is refused (RFC 7301 3.2)."""
    wire = ALPN_LISTS.setdefault(wire, wire)
    SSL_CTX_set_alpn_select_cb(pointer(context), choose_alpn, <P>wire)


cdef int choose_alpn(
    P ssl, const unsigned char** out, unsigned char* out_size, const unsigned char* offer, unsigned int size, P argument
) noexcept:
    cdef PyObject* ours = <PyObject*>argument
    cdef const unsigned char* mine = <const unsigned char*>PyBytes_AS_STRING(<object>ours)
    cdef const unsigned char* end = mine + PyBytes_GET_SIZE(<object>ours)
    cdef unsigned int at
    while mine < end:
        at = 0
        while at < size:
            if at + 1 + offer[at] > size:
                return 2
            if offer[at] == mine[0] and memcmp(offer + at + 1, mine + 1, mine[0]) == 0:
                out[0] = offer + at + 1
                out_size[0] = offer[at]
                return 0                     # SSL_TLSEXT_ERR_OK
            at += 1 + offer[at]
        mine += 1 + mine[0]
    return 2                                 # SSL_TLSEXT_ERR_ALERT_FATAL: no_application_protocol


def set_ticket_keys(context, keys) -> None:
    """Session ticket keys, 80 bytes each, newest first, at most 4: the first seals, all of them open."""
    cdef Keys* box = <Keys*>calloc(1, sizeof(Keys))
    if box == NULL:
        raise MemoryError
    cdef P ctx = pointer(context)
    cdef Keys* old = <Keys*>SSL_CTX_get_ex_data(ctx, KEYS_INDEX)
    cdef bytes key
    for key in keys[:4]:
        if len(key) != 80:
            free(box)
            raise ValueError("a ticket key has 80 bytes")
        memcpy(box.key[box.count], PyBytes_AS_STRING(key), 80)
        box.count += 1
    SSL_CTX_set_ex_data(ctx, KEYS_INDEX, box)
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_key)
    free(old)


cdef void forget_keys(P parent, P box, P data, int index, long number, P pointer) noexcept:
    free(box)


cdef void set_param(Param* param, const char* key, unsigned int kind, void* data, size_t size) noexcept:
    param.key = key
    param.kind = kind
    param.data = data
    param.size = size
    param.back = 0


cdef int ticket_key(P ssl, unsigned char* name, unsigned char* iv, P cipher, P mac, int seal) noexcept:
    """SSL_CTX_set_tlsext_ticket_key_evp_cb: 1 use it, 2 use it and send a new ticket, 0 not ours, -1 error."""
    cdef Keys* box = <Keys*>SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), KEYS_INDEX)
    cdef int i = 0
    cdef Param params[3]
    cdef unsigned char* secret
    if box == NULL or box.count == 0:
        return 0
    if seal:
        if RAND_bytes(iv, 16) != 1:
            return -1
        memcpy(name, box.key[0], 16)
    else:
        while i < box.count and memcmp(name, box.key[i], 16) != 0:
            i += 1
        if i == box.count:
            return 0
    secret = &box.key[i][0]
    set_param(&params[0], b"key", 5, secret + 16, 32)            # 5: OSSL_PARAM_OCTET_STRING
    set_param(&params[1], b"digest", 4, <P><char*>b"SHA256", 6)  # 4: OSSL_PARAM_UTF8_STRING
    set_param(&params[2], NULL, 0, NULL, 0)
    if EVP_MAC_CTX_set_params(mac, params) != 1:
        return -1
    if seal:
        return 1 if EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, secret + 48, iv) == 1 else -1
    if EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, secret + 48, iv) != 1:
        return -1
    return 2 if i or SSL_version(ssl) == 0x0304 else 1           # TLS 1.3 tickets are for one use (RFC 8446 C.4)
