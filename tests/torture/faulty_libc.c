/* What a disk and a clock can do, in the place of libc: LD_PRELOAD it.

   FAULTY_LIBC names a file of two numbers, int64: seconds that the wall clock is wrong by, and
   whether writing trainer.log fails with EIO. Every process that has it mapped heeds a change. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *faults;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTY_LIBC");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *found = mmap(0, 16, PROT_READ, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED) faults = found;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, id, now);
    if (!failed && faults && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += faults[0];
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = (int)syscall(SYS_gettimeofday, now, zone);
    if (!failed && faults) now->tv_sec += faults[0];
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

static int fails(int fd) {
    char link[64], target[4096];
    if (!faults || !faults[1]) return 0;
    char *at = stpcpy(link, "/proc/self/fd/");
    char digits[16], *digit = digits + sizeof digits;
    *--digit = 0;
    do *--digit = (char)('0' + fd % 10); while (fd /= 10);
    strcpy(at, digit);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    const char *name = strrchr(target, '/');
    return name && !strcmp(name, "/trainer.log");
}

ssize_t write(int fd, const void *data, size_t size) {
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_writev, fd, parts, count);
}
