// libuv's read-write locks. Bun 1.4.5 exports them as functions that end the process; linking with -Bsymbolic makes these take precedence.
#include <pthread.h>
#include <stdlib.h>
#include <uv.h>

#include <type_traits>

// ASSUMES that libuv's lock is the pthreads lock; checked when compiled.
static_assert(std::is_same_v<uv_rwlock_t, pthread_rwlock_t>);

namespace {
// As in libuv: a failing lock is a bug, and continuing would corrupt memory.
void Must(int result) {
  if (result != 0) abort();
}
}  // namespace

extern "C" {
int uv_rwlock_init(pthread_rwlock_t* lock) { return -pthread_rwlock_init(lock, nullptr); }
void uv_rwlock_destroy(pthread_rwlock_t* lock) { Must(pthread_rwlock_destroy(lock)); }
void uv_rwlock_rdlock(pthread_rwlock_t* lock) { Must(pthread_rwlock_rdlock(lock)); }
int uv_rwlock_tryrdlock(pthread_rwlock_t* lock) { return -pthread_rwlock_tryrdlock(lock); }
void uv_rwlock_rdunlock(pthread_rwlock_t* lock) { Must(pthread_rwlock_unlock(lock)); }
void uv_rwlock_wrlock(pthread_rwlock_t* lock) { Must(pthread_rwlock_wrlock(lock)); }
void uv_rwlock_wrunlock(pthread_rwlock_t* lock) { Must(pthread_rwlock_unlock(lock)); }
}
