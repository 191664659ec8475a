/* A wall clock that can be set while the process runs, for LD_PRELOAD: see clocks.py.
 *
 * The file that ORCHX_CHAOS_CLOCK names is mapped; it holds one number of 64 bits, by how many
 * seconds the clock is ahead of the true one. The monotonic clock stays true, as it does where a
 * person or NTP sets a machine's clock. Waits until a time of the wall clock are translated; those
 * until a time of the monotonic clock are told apart by being small: the machine has not been up
 * since 2001.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WALL_TIME_MIN_S 1000000000

static const volatile int64_t *ahead;

__attribute__((constructor)) static void open_clock(void) {
  const char *name = getenv("ORCHX_CHAOS_CLOCK");
  int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (page != MAP_FAILED) ahead = page;
}

static int64_t ahead_s(void) { return ahead ? *ahead : 0; }

static struct timespec truly(const struct timespec *until) {
  struct timespec real = *until;
  if (real.tv_sec > WALL_TIME_MIN_S) real.tv_sec -= ahead_s();
  return real;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  long result = syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += ahead_s();
  return (int)result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec precise;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (now) *now = precise.tv_sec;
  return precise.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
  if (base != TIME_UTC) return 0;
  clock_gettime(CLOCK_REALTIME, now);
  return base;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until,
                    struct timespec *left) {
  struct timespec real = flags & TIMER_ABSTIME ? truly(until) : *until;
  return syscall(SYS_clock_nanosleep, clock, flags, &real, left) == 0 ? 0 : errno;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  struct timespec real = truly(until);
  if (!next) next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  return next(cond, mutex, &real);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex,
                            const struct timespec *restrict until) {
  static int (*next)(pthread_mutex_t *, const struct timespec *);
  struct timespec real = truly(until);
  if (!next) next = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
  return next(mutex, &real);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
  static int (*next)(sem_t *, const struct timespec *);
  struct timespec real = truly(until);
  if (!next) next = dlsym(RTLD_NEXT, "sem_timedwait");
  return next(semaphore, &real);
}
