// Shared by the files of shim/.
#pragma once
#include <nan.h>

// shim/v8.cc: an uninitialised Buffer with its own memory.
v8::MaybeLocal<v8::Object> NewBuffer(v8::Isolate* isolate, size_t length);

namespace NodeKafka {

// The native object behind a client, or NULL for anything else.
template <class T>
T* ClientOf(v8::Local<v8::Value> value) {
  if (!value->IsObject() || value.As<v8::Object>()->InternalFieldCount() < 1) return NULL;
  return dynamic_cast<T*>(Nan::ObjectWrap::Unwrap<Nan::ObjectWrap>(value.As<v8::Object>()));
}

// Keeps a client from being destroyed during its lifetime. A disconnect holds the lock until it is complete, and the JavaScript thread must not wait
// for that: it tries the lock and checks whether it got it.
class TryReadLock {
 public:
  explicit TryReadLock(uv_rwlock_t& lock) : lock_(lock), got_(uv_rwlock_tryrdlock(&lock) == 0) {}
  ~TryReadLock() {
    if (got_) uv_rwlock_rdunlock(&lock_);
  }
  TryReadLock(const TryReadLock&) = delete;
  TryReadLock& operator=(const TryReadLock&) = delete;
  explicit operator bool() const { return got_; }

 private:
  uv_rwlock_t& lock_;
  const bool got_;
};

}  // namespace NodeKafka
