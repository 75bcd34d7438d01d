/*
 * Writes down what a program does to the files below one directory, in the order in which it is done,
 * so that a test can tell what a disk would have kept had the power gone at any moment.
 *
 * Preloaded into the program and into the commands beside it. What it saw goes to one file,
 * FISHWAY_POWER_LOG, which all of them append to: a record is written under a lock together with
 * what it tells of, so its place among the others is the order of the events. Below
 * FISHWAY_POWER_ROOT it records creations, writes, cuts, names and syncs. What was told to the
 * outside, which no disk can take back, stands among them: writes to files below
 * FISHWAY_POWER_OUTSIDE, and standard output where FISHWAY_POWER_LABEL is set.
 *
 * Nothing is synced for real: whoever tells what the disk kept reads the record, not the disk.
 * SQLite's -shm is memory that happens to have a name, and is left out.
 *
 * With FISHWAY_POWER_DIES the program is killed right before it syncs the first page that it has
 * written to a write-ahead log: others can read what is in no disk yet.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATED = 1, WRITTEN, CUT, SYNCED, FOLDER, FOLDER_SYNCED, RENAMED, REMOVED, TOLD };

/* Followed by the name and the data. */
struct record {
  uint64_t kind, inode, offset, name_bytes, data_bytes;
};

static int journal = -1;
static char root[PATH_MAX], outside[PATH_MAX];
static const char *label;
static int dies, unsynced;
static pthread_mutex_t threads = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) { fprintf(stderr, "power: no %s\n", name); abort(); }
  return found;
}

static void die(const char *what) {
  fprintf(stderr, "power: %s: %s\n", what, strerror(errno));
  abort();
}

__attribute__((constructor)) static void begin(void) {
  const char *to = getenv("FISHWAY_POWER_LOG"), *below = getenv("FISHWAY_POWER_ROOT");
  const char *beside = getenv("FISHWAY_POWER_OUTSIDE");
  if (!to || !below || !beside) return;
  if (!realpath(below, root) || !realpath(beside, outside)) die("realpath");
  label = getenv("FISHWAY_POWER_LABEL");
  dies = getenv("FISHWAY_POWER_DIES") != NULL;
  journal = REAL(open64)(to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (journal < 0) die(to);
}

static void lock(void) {
  pthread_mutex_lock(&threads);
  while (flock(journal, LOCK_EX)) if (errno != EINTR) die("flock");
}

static void unlock(void) {
  int kept = errno;
  if (flock(journal, LOCK_UN)) die("flock");
  pthread_mutex_unlock(&threads);
  errno = kept;
}

/* Under the lock. A process that is killed in the middle would leave half a record: it is one write. */
static void record(int kind, uint64_t inode, uint64_t offset, const char *name, const void *data, size_t bytes) {
  int kept = errno;
  struct record head = {kind, inode, offset, strlen(name), bytes};
  struct iovec parts[3] = {{&head, sizeof head}, {(void *)name, head.name_bytes}, {(void *)data, bytes}};
  if (REAL(writev)(journal, parts, 3) != (ssize_t)(sizeof head + head.name_bytes + bytes)) die("journal");
  errno = kept;
}

static int below(const char *path, const char *directory) {
  size_t length = strlen(directory);
  return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int ends_in(const char *path, const char *end) {
  size_t length = strlen(path), last = strlen(end);
  return length > last && strcmp(path + length - last, end) == 0;
}

static int shared_memory(const char *path) { return ends_in(path, "-shm"); }
static int log_of_writes(const char *path) { return ends_in(path, "-wal"); }

/* Whether it is one of ours, and where it lies. */
static int watched(const char *path) {
  return journal >= 0 && below(path, root) && !shared_memory(path);
}

/* The name of an open file, as it was opened or renamed. */
static const char *opened(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = 0;
  return path;
}

/* The absolute name of what need not exist; its directory does. */
static const char *named(int directory, const char *name, char *path) {
  char joined[PATH_MAX + NAME_MAX + 2], *slash;
  path[0] = 0;
  if (journal < 0 || !name || !*name) return path;
  if (name[0] == '/' || directory == AT_FDCWD) {
    snprintf(joined, sizeof joined, "%s%s", name[0] == '/' ? "" : "./", name);
  } else {
    char at[PATH_MAX];
    snprintf(joined, sizeof joined, "%s/%s", opened(directory, at), name);
  }
  while ((slash = strrchr(joined, '/')) && slash[1] == 0 && slash != joined) *slash = 0;
  if (!slash) return path;
  char last[NAME_MAX + 1];
  snprintf(last, sizeof last, "%s", slash + 1);
  slash[slash == joined] = 0;
  if (!realpath(joined, path)) { path[0] = 0; return path; }
  size_t length = strlen(path);
  snprintf(path + length, PATH_MAX - length, "/%s", last);
  return path;
}

static uint64_t inode_of(int fd) {
  struct stat64 found;
  return fstat64(fd, &found) ? 0 : found.st_ino;
}

static int opening(const char *function, int directory, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  int known = flags & (O_CREAT | O_TRUNC) && !(flags & O_TMPFILE & ~O_DIRECTORY) && watched(named(directory, name, path));
  if (!known) return ((int (*)(int, const char *, int, ...))real(function))(directory, name, flags, mode);
  lock();
  struct stat64 before;
  int there = !stat64(path, &before);
  int fd = ((int (*)(int, const char *, int, ...))real(function))(directory, name, flags, mode);
  if (fd >= 0 && !there) record(CREATED, inode_of(fd), 0, path, "", 0);
  if (fd >= 0 && there && flags & O_TRUNC) record(CUT, inode_of(fd), 0, "", "", 0);
  unlock();
  return fd;
}

#define OPEN(name, at) \
  int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0; va_end(more); \
    return opening(at, AT_FDCWD, path, flags, mode); \
  }
#define OPENAT(name) \
  int name(int directory, const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0; va_end(more); \
    return opening(#name, directory, path, flags, mode); \
  }
OPEN(open, "openat")
OPEN(open64, "openat64")
OPENAT(openat)
OPENAT(openat64)

/* Whether a write to this file is to be known, and as what. */
static int writing(int fd, char *path) {
  if (journal < 0 || fd == journal) return 0;
  if (fd == 1 && label) return TOLD;
  opened(fd, path);
  if (watched(path)) return WRITTEN;
  return below(path, outside) ? TOLD : 0;
}

/* One that is told is heard of no sooner than it is recorded. */
static ssize_t write_at(int fd, const void *data, size_t bytes, int64_t offset, int placed) {
  char path[PATH_MAX];
  int kind = writing(fd, path);
  if (!kind) return placed ? REAL(pwrite64)(fd, data, bytes, offset) : REAL(write)(fd, data, bytes);
  lock();
  ssize_t written;
  if (kind == TOLD) {
    record(TOLD, 0, 0, fd == 1 && label ? label : path, data, bytes);
    written = placed ? REAL(pwrite64)(fd, data, bytes, offset) : REAL(write)(fd, data, bytes);
  } else {
    if (!placed) {
      int append = fcntl(fd, F_GETFL) & O_APPEND;
      offset = lseek64(fd, 0, append ? SEEK_END : SEEK_CUR);
    }
    written = placed ? REAL(pwrite64)(fd, data, bytes, offset) : REAL(write)(fd, data, bytes);
    if (written > 0) record(WRITTEN, inode_of(fd), offset, "", data, written);
    /* Not the heads of the log and its frames: those are shorter than any page. */
    if (written >= 512 && log_of_writes(path)) unsynced = 1;
  }
  unlock();
  return written;
}

ssize_t write(int fd, const void *data, size_t bytes) { return write_at(fd, data, bytes, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) { return write_at(fd, data, bytes, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t offset) { return write_at(fd, data, bytes, offset, 1); }

/* The first part that has something; a short write is no error. */
static ssize_t gathered(int fd, const struct iovec *parts, int count, int64_t offset, int placed) {
  while (count > 1 && parts->iov_len == 0) { parts++; count--; }
  if (count < 1) { errno = EINVAL; return -1; }
  return write_at(fd, parts->iov_base, parts->iov_len, offset, placed);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  char path[PATH_MAX];
  if (!writing(fd, path)) return REAL(writev)(fd, parts, count);
  return gathered(fd, parts, count, 0, 0);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return gathered(fd, parts, count, offset, 1); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return gathered(fd, parts, count, offset, 1); }

/* Whoever copies a file goes back to reading and writing. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t bytes, unsigned flags) {
  (void)in; (void)from; (void)out; (void)to; (void)bytes; (void)flags;
  errno = ENOSYS;
  return -1;
}
ssize_t sendfile64(int out, int in, off64_t *from, size_t bytes) {
  (void)in; (void)from; (void)out; (void)bytes;
  errno = ENOSYS;
  return -1;
}
ssize_t sendfile(int out, int in, off_t *from, size_t bytes) { return sendfile64(out, in, (off64_t *)from, bytes); }

static int syncing(const char *function, int fd) {
  char path[PATH_MAX];
  if (journal < 0 || !watched(opened(fd, path))) return ((int (*)(int))real(function))(fd);
  struct stat64 found;
  if (fstat64(fd, &found)) return -1;
  lock();
  if (dies && unsynced && log_of_writes(path)) kill(getpid(), SIGKILL);
  if (S_ISDIR(found.st_mode)) record(FOLDER_SYNCED, 0, 0, path, "", 0);
  else record(SYNCED, found.st_ino, 0, "", "", 0);
  unlock();
  return 0;
}
int fsync(int fd) { return syncing("fsync", fd); }
int fdatasync(int fd) { return syncing("fdatasync", fd); }

static int cutting(const char *function, int fd, int64_t size) {
  char path[PATH_MAX];
  int (*cut)(int, off64_t) = (int (*)(int, off64_t))real(function);
  if (journal < 0 || !watched(opened(fd, path))) return cut(fd, size);
  lock();
  int done = cut(fd, size);
  if (!done) record(CUT, inode_of(fd), size, "", "", 0);
  unlock();
  return done;
}
int ftruncate(int fd, off_t size) { return cutting("ftruncate", fd, size); }
int ftruncate64(int fd, off64_t size) { return cutting("ftruncate64", fd, size); }

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
  char old[PATH_MAX], new[PATH_MAX];
  named(from_directory, from, old);
  if (!watched(named(to_directory, to, new)) && !watched(old)) return REAL(renameat)(from_directory, from, to_directory, to);
  lock();
  int done = REAL(renameat)(from_directory, from, to_directory, to);
  if (!done) record(RENAMED, 0, 0, old, new, strlen(new));
  unlock();
  return done;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int directory, const char *name, int flags) {
  char path[PATH_MAX];
  if (!watched(named(directory, name, path))) return REAL(unlinkat)(directory, name, flags);
  lock();
  int done = REAL(unlinkat)(directory, name, flags);
  if (!done) record(REMOVED, 0, 0, path, "", 0);
  unlock();
  return done;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int directory, const char *name, mode_t mode) {
  char path[PATH_MAX];
  if (!watched(named(directory, name, path))) return REAL(mkdirat)(directory, name, mode);
  lock();
  int done = REAL(mkdirat)(directory, name, mode);
  if (!done) record(FOLDER, 0, mode, path, "", 0);
  unlock();
  return done;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
