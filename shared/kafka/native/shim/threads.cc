// libuv's threads. Bun exports them as functions that end the process; linking with -Bsymbolic makes these take precedence. The client starts one
// for each consumer in flowing mode (`consume()` without a number).
#include <pthread.h>
#include <uv.h>

#include <type_traits>

// ASSUMES that libuv's thread is a pthread; checked when compiled.
static_assert(std::is_same_v<uv_thread_t, pthread_t>);

namespace {

struct Start {
  uv_thread_cb entry;
  void* argument;
};

void* Run(void* given) {
  Start start = *static_cast<Start*>(given);
  delete static_cast<Start*>(given);
  start.entry(start.argument);
  return nullptr;
}

}  // namespace

extern "C" {
int uv_thread_create(uv_thread_t* thread, uv_thread_cb entry, void* argument) {
  Start* start = new Start{entry, argument};
  int result = pthread_create(thread, nullptr, Run, start);
  if (result != 0) delete start;
  return -result;
}

int uv_thread_join(uv_thread_t* thread) { return -pthread_join(*thread, nullptr); }
}
