// Threads for the client's blocking calls.
//
// Bun's pool has as many threads as the machine has cores, and its own file and DNS calls need them: a few calls that wait for a broker would
// block the whole process. Here every call has its own thread, so none waits for another. Linking with -Bsymbolic makes this take precedence over
// Bun's uv_queue_work.
//
// ASSUMES that Bun's async handles work, and fit the sizes in Node's uv.h; checked when built (stubs.ts, trial.ts).
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include <deque>
#include <vector>

namespace {

// Calls that can run at the same time; another waits until one returns, and every call has a time-out. Clients make one transaction step at a time,
// and one request for each partition during an assignment, well below this. A thread takes about 20 KB.
constexpr size_t kMostThreads = 256;

// How long an idle thread is kept: the next step of a transaction follows within milliseconds.
constexpr time_t kIdleSeconds = 2;

// librdkafka's calls put names and messages on the stack, nothing large.
constexpr size_t kStackBytes = 512 * 1024;

struct Pool {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t given = PTHREAD_COND_INITIALIZER;
  std::deque<uv_work_t*> waiting;
  std::vector<uv_work_t*> done;
  size_t threads = 0;
  size_t idle = 0;

  // Used by the JavaScript thread only. An open handle keeps the process alive, so there is one while calls are running.
  uv_async_t* async = nullptr;
  size_t under_way = 0;
};

// Never destroyed: threads may be waiting in a call when the process ends.
Pool* const pool = new Pool();

void* Run(void*) {
#ifdef __linux__
  pthread_setname_np(pthread_self(), "kafka-call");
#endif
  Pool& p = *pool;
  pthread_mutex_lock(&p.lock);
  for (;;) {
    timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += kIdleSeconds;
    int result = 0;
    p.idle++;
    while (p.waiting.empty() && result == 0) result = pthread_cond_timedwait(&p.given, &p.lock, &until);
    p.idle--;
    if (p.waiting.empty()) break;
    uv_work_t* work = p.waiting.front();
    p.waiting.pop_front();
    pthread_mutex_unlock(&p.lock);
    work->work_cb(work);
    pthread_mutex_lock(&p.lock);
    // Within the lock: once this call counts as returned, the JavaScript thread may close the handle.
    if (p.done.empty()) uv_async_send(p.async);
    p.done.push_back(work);
  }
  p.threads--;
  pthread_mutex_unlock(&p.lock);
  return nullptr;
}

bool StartThread() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // Signals are handled by Bun's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  int result = pthread_create(&thread, &attributes, Run, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return result == 0;
}

// On the JavaScript thread, in the order in which the calls returned.
void Tell(uv_async_t*) {
  Pool& p = *pool;
  pthread_mutex_lock(&p.lock);
  std::vector<uv_work_t*> done;
  done.swap(p.done);
  pthread_mutex_unlock(&p.lock);
  p.under_way -= done.size();
  // After a second notification of the same call the handle is closed already.
  if (p.under_way == 0 && p.async != nullptr) {
    uv_close(reinterpret_cast<uv_handle_t*>(p.async), [](uv_handle_t* handle) { delete reinterpret_cast<uv_async_t*>(handle); });
    p.async = nullptr;
  }
  for (uv_work_t* work : done) work->after_work_cb(work, 0);
}

}  // namespace

extern "C" int uv_queue_work(uv_loop_t* loop, uv_work_t* work, uv_work_cb work_cb, uv_after_work_cb after_work_cb) {
  Pool& p = *pool;
  work->loop = loop;
  work->work_cb = work_cb;
  work->after_work_cb = after_work_cb;
  if (p.async == nullptr) {
    p.async = new uv_async_t();
    int result = uv_async_init(loop, p.async, Tell);
    if (result != 0) return result;
  }
  p.under_way++;
  pthread_mutex_lock(&p.lock);
  p.waiting.push_back(work);
  if (p.waiting.size() > p.idle && p.threads < kMostThreads) {
    if (StartThread()) {
      p.threads++;
    } else if (p.threads == 0) {
      // As in libuv: no thread can be created to run it.
      fprintf(stderr, "kafka addon: no thread can be started; raise the limit of processes\n");
      abort();
    }
  }
  pthread_cond_signal(&p.given);
  pthread_mutex_unlock(&p.lock);
  return 0;
}
