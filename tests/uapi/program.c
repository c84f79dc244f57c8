/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program under supervision: an ordinary user of Linux's VFIO, without our library. Its argument
 * says which case it is; it ends with 0, or says where it failed. The devices are those of
 * test_run.c: two, each its own group, 1 and 2.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "registers.h"

#define CONFIG (7ULL << 40)

#define CHECK(condition)                                                                    \
	do {                                                                                \
		if (!(condition)) {                                                         \
			fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, \
				strerror(errno));                                           \
			_exit(99);                                                          \
		}                                                                           \
	} while (0)
#define FAILS(call, error) CHECK((errno = 0, (call) == -1) && errno == (error))

static const char *self;

/* ---- Devices ---- */

static uint32_t read_at(int device, uint64_t offset)
{
	uint32_t value = 0;

	CHECK(pread(device, &value, sizeof(value), (off_t)offset) == sizeof(value));
	return value;
}

static void write_at(int device, uint64_t offset, uint32_t value)
{
	CHECK(pwrite(device, &value, sizeof(value), (off_t)offset) == sizeof(value));
}

static int open_group(int number)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", number);
	return open(path, O_RDWR);
}

/* Device @number (1 or 2) of a container of its own, with its memory space enabled. */
static int open_device(int number)
{
	char name[] = "0000:01:00.0";
	int container = open("/dev/vfio/vfio", O_RDWR), group = open_group(number);
	uint16_t command = 2;
	int device;

	name[6] = (char)('0' + number);
	CHECK(container >= 0 && group >= 0);
	CHECK(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0);
	CHECK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
	CHECK(device >= 0);
	CHECK(pwrite(device, &command, 2, CONFIG + 4) == 2);
	/* The device keeps both. */
	close(container);
	close(group);
	return device;
}

static void check_device(int device)
{
	CHECK(read_at(device, CONFIG) == (REGISTERS_DEVICE << 16 | REGISTERS_VENDOR));
}

/* ---- Cases ---- */

static int exit_status(void)
{
	return 7;
}

static int end_by_signal(void)
{
	raise(SIGUSR1);
	return 99;
}

static int signal_mask(void)
{
	sigset_t blocked;

	CHECK(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0);
	CHECK(sigismember(&blocked, SIGUSR2) == 1 && sigismember(&blocked, SIGUSR1) == 0);
	CHECK(signal(SIGPIPE, SIG_DFL) == SIG_IGN);
	CHECK(signal(SIGTERM, SIG_DFL) == SIG_DFL);
	return 0;
}

static void pass(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = {0};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	*header = (struct cmsghdr){CMSG_LEN(sizeof(fd)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	CHECK(sendmsg(socket, &message, 0) == 1);
}

static int take(int socket)
{
	char control[CMSG_SPACE(sizeof(int))];
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	int fd;

	CHECK(recvmsg(socket, &message, 0) == 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

static void check_child(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Whatever way a descriptor is come by, it is the device, until the last is closed. */
static int duplicates(void)
{
	int device = open_device(1), copies[5], sockets[2];
	char number[16];
	pid_t pid;

	copies[0] = dup(device);
	copies[1] = dup2(device, 50);
	copies[2] = dup3(device, 51, O_CLOEXEC);
	copies[3] = fcntl(device, F_DUPFD, 100);
	copies[4] = fcntl(device, F_DUPFD_CLOEXEC, 0);
	CHECK(copies[1] == 50 && copies[2] == 51 && copies[3] >= 100);
	CHECK(fcntl(copies[0], F_GETFD) == 0 && fcntl(copies[4], F_GETFD) == FD_CLOEXEC);
	for (int i = 0; i < 5; i++)
		check_device(copies[i]);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
	pid = fork();
	if (pid == 0) {
		int passed = take(sockets[1]);

		close(device);
		for (int i = 0; i < 5; i++)
			close(copies[i]);
		check_device(passed);
		snprintf(number, sizeof(number), "%d", passed);
		execl(self, self, "inherited", number, NULL);
		_exit(99);
	}
	pass(sockets[0], device);
	check_child(pid);
	close(device);
	for (int i = 0; i < 5; i++)
		close(copies[i]);
	close(sockets[0]);
	close(sockets[1]);
	check_device(open_device(1)); /* it was closed */
	return 0;
}

static int inherited(const char *number)
{
	check_device((int)strtol(number, NULL, 10));
	FAILS(open_group(1), EBUSY);
	return 0;
}

static int reopened(void)
{
	for (int i = 0; i < 1000; i++) {
		int group = open_group(1);

		CHECK(group >= 0);
		FAILS(open_group(1), EBUSY);
		close(group);
	}
	for (int i = 0; i < 200; i++) {
		int device = open_device(1);

		write_at(device, REGISTER_SCRATCH, 1);
		close(device);
		device = open_device(1);
		CHECK(read_at(device, REGISTER_SCRATCH) == 0); /* it was reset */
		close(device);
	}
	return 0;
}

static void *call_often(void *opaque)
{
	int device = *(int *)opaque;

	for (int i = 0; i < 200; i++) {
		struct stat stat;
		int copy;

		check_device(device);
		copy = open("/dev/vfio/vfio", O_RDWR);
		CHECK(copy >= 0 && ioctl(copy, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
		CHECK(fstat(copy, &stat) == 0);
		close(copy);
	}
	return NULL;
}

static int threads(void)
{
	int device = open_device(1);
	pthread_t all[64];

	for (int i = 0; i < 64; i++)
		CHECK(pthread_create(&all[i], NULL, call_often, &device) == 0);
	for (int i = 0; i < 64; i++)
		pthread_join(all[i], NULL);
	return 0;
}

static void *read_blocked(void *opaque)
{
	CHECK(read_at(*(int *)opaque, REGISTER_BLOCK) == 1);
	return NULL;
}

/* One device's read lasts until the other's register is written. */
static int slow(void)
{
	int devices[2] = {open_device(1), open_device(2)};
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, read_blocked, &devices[0]) == 0);
	while (read_at(devices[1], REGISTER_BLOCKED) == 0)
		sched_yield();
	close(open("/dev/vfio/vfio", O_RDWR));
	close(open("/etc/passwd", O_RDONLY));
	write_at(devices[1], REGISTER_UNBLOCK, 1);
	pthread_join(thread, NULL);
	return 0;
}

/* A device whose close lasts holds up nobody but who wants it. */
static int slow_release(void)
{
	int devices[2] = {open_device(1), open_device(2)};

	write_at(devices[0], REGISTER_BLOCK, 1);
	close(devices[0]);
	while (read_at(devices[1], REGISTER_BLOCKED) == 0)
		sched_yield();
	close(open("/dev/vfio/vfio", O_RDWR));
	check_device(devices[1]);
	write_at(devices[1], REGISTER_UNBLOCK_SOON, 1);
	check_device(open_device(1)); /* and not EBUSY */
	return 0;
}

static void *hold(void *opaque)
{
	read_at(*(int *)opaque, REGISTER_BLOCK);
	return NULL;
}

/* To be killed while a call lasts. */
static int blocked(void)
{
	int device = open_device(1);
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, hold, &device) == 0);
	for (;;)
		pause();
}

static int accesses(void)
{
	int device = open_device(1), container = open("/dev/vfio/vfio", O_RDWR);
	int null = open("/dev/null", O_RDWR), pipes[2];
	uint32_t values[3] = {0};
	struct iovec iov[3] = {{&values[0], 4}, {&values[1], 4}, {&values[2], 4}};
	struct iovec bad = {(void *)8, 4};
	loff_t offset = 0;

	write_at(device, REGISTER_SCRATCH, 0x12345678);
	/* There is a position, from 0 on, and no way to set it. */
	FAILS(lseek(device, 0, SEEK_SET), ESPIPE);
	CHECK(read(device, values, 4) == 4 && values[0] == 0x12345678);
	CHECK(read(device, values, 4) == 4 && values[0] == REGISTER_SECOND_VALUE);
	CHECK(preadv(device, iov, 2, CONFIG) == 8);
	CHECK(values[0] == (REGISTERS_DEVICE << 16 | REGISTERS_VENDOR));
	CHECK(preadv2(device, iov, 1, REGISTER_SCRATCH, RWF_HIPRI) == 4 && values[0] == 0x12345678);
	FAILS(preadv2(device, iov, 1, REGISTER_SCRATCH, RWF_NOWAIT), EOPNOTSUPP);
	FAILS(syscall(SYS_preadv, device, iov, 1025, CONFIG), EINVAL);
	FAILS(syscall(SYS_preadv, device, 8, 1, CONFIG), EFAULT);
	FAILS(preadv(device, &bad, 1, CONFIG), EFAULT);
	FAILS(syscall(SYS_pread64, device, 8, 4, CONFIG), EFAULT);
	FAILS(pread(device, values, 4, -1), EINVAL);
	values[0] = 5;
	CHECK(pwritev(device, iov, 1, REGISTER_SCRATCH) == 4);
	CHECK(read_at(device, REGISTER_SCRATCH) == 5);
	CHECK(pipe(pipes) == 0);
	FAILS(sendfile(null, device, NULL, 4), EINVAL);
	FAILS(splice(device, &offset, pipes[1], NULL, 4, 0), EINVAL);
	FAILS(splice(pipes[0], NULL, device, &offset, 4, 0), EINVAL);
	FAILS(read(container, values, 4), EINVAL);
	FAILS(write(container, values, 4), EINVAL);
	FAILS(ioctl(container, _IO(';', 99)), EINVAL);
	FAILS(ioctl(device, _IO(';', 99)), ENOTTY);
	FAILS(ioctl(null, VFIO_GET_API_VERSION), ENOTTY);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, container, 0) == MAP_FAILED &&
	      errno == ENODEV);
	CHECK(mmap(NULL, 4095, PROT_READ, MAP_SHARED, device, CONFIG + 1) == MAP_FAILED &&
	      errno == EINVAL);
	/* One that was opened to be read. */
	container = open("/dev/vfio/vfio", O_RDONLY);
	FAILS(write(container, values, 4), EBADF);
	CHECK((fcntl(container, F_GETFL) & O_ACCMODE) == O_RDONLY);
	CHECK(ioctl(container, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
	return 0;
}

static int stats(void)
{
	int container = open("/dev/vfio/vfio", O_RDWR), group = open_group(1);
	int other = open_group(2);
	int device = open("/dev/vfio/devices/vfio1", O_RDWR | O_CLOEXEC);
	struct stat one, two;
	struct statx statx_one;

	CHECK(fstat(container, &one) == 0 && S_ISCHR(one.st_mode));
	CHECK(one.st_rdev == makedev(10, 196));
	CHECK(fstat(group, &one) == 0 && fstat(other, &two) == 0);
	CHECK(S_ISCHR(one.st_mode) && minor(one.st_rdev) == 1 && minor(two.st_rdev) == 2);
	CHECK(fstat(device, &one) == 0 && S_ISCHR(one.st_mode) && minor(one.st_rdev) == 1);
	CHECK(statx(device, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &statx_one) == 0);
	CHECK(makedev(statx_one.stx_rdev_major, statx_one.stx_rdev_minor) == one.st_rdev);
	CHECK(S_ISCHR(statx_one.stx_mode) && fcntl(device, F_GETFD) == FD_CLOEXEC);
	CHECK(syscall(SYS_fstat, device, &two) == 0 && two.st_ino == one.st_ino);
	FAILS(fstatat(device, "name", &two, 0), ENOTDIR);
	FAILS(syscall(SYS_fstat, device, 8), EFAULT);
	return 0;
}

/* Opens a container by a name of it, or fails as it shall. */
static void opens(int folder, const char *path, int flags)
{
	int fd = openat(folder, path, flags);

	CHECK(fd >= 0 && ioctl(fd, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
	close(fd);
}

static int paths(void)
{
	char folder[] = "/tmp/uvfio-paths-XXXXXX";
	struct open_how how = {.flags = O_RDWR};
	int dev = open("/dev", O_PATH | O_DIRECTORY);
	int fd;

	opens(AT_FDCWD, "/dev/vfio/vfio", O_RDWR);
	opens(AT_FDCWD, "/dev//vfio/./vfio", O_RDWR);
	opens(AT_FDCWD, "/dev/vfio/devices/../vfio", O_RDWR);
	opens(AT_FDCWD, "/dev/vfio/vfio", O_RDWR | O_CREAT | O_NOFOLLOW);
	opens(dev, "vfio/vfio", O_RDWR);
	CHECK(chdir("/dev/vfio") == 0);
	opens(AT_FDCWD, "vfio", O_RDWR);
	opens(AT_FDCWD, "../vfio/vfio", O_RDWR);
	CHECK((fd = (int)syscall(SYS_openat2, dev, "vfio/vfio", &how, sizeof(how))) >= 0);
	CHECK(ioctl(fd, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
	CHECK((fd = creat("/dev/vfio/vfio", 0600)) >= 0);
	CHECK(ioctl(fd, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
	CHECK((fd = (int)syscall(SYS_open, "/dev/iommu", O_RDWR)) >= 0);
	CHECK(mkdtemp(folder) && chdir(folder) == 0 && symlink("/dev/vfio", "link") == 0);
	opens(AT_FDCWD, "link/vfio", O_RDWR);
	CHECK(unlink("link") == 0 && symlink("/dev/vfio/vfio", "vfio") == 0);
	opens(AT_FDCWD, "vfio", O_RDWR);
	FAILS(open("vfio", O_RDWR | O_NOFOLLOW), ELOOP);
	CHECK(unlink("vfio") == 0 && (fd = open("vfio", O_RDWR | O_CREAT, 0600)) >= 0);
	FAILS(ioctl(fd, VFIO_GET_API_VERSION), ENOTTY); /* a file of that name */
	CHECK(unlink("vfio") == 0 && rmdir(folder) == 0);
	FAILS(open("/dev/vfio/vfio", O_RDWR | O_DIRECTORY), ENOTDIR);
	FAILS(open("/dev/vfio/vfio", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	FAILS(open("/dev/vfio/vfio/", O_RDWR), ENOTDIR);
	FAILS(open("/dev/vfio/vfio/x", O_RDWR), ENOTDIR);
	FAILS(open("/dev/nothing/../vfio/vfio", O_RDWR), ENOENT);
	FAILS(open("/dev/vfio/77", O_RDWR), ENOENT);
	FAILS(open("/dev/vfio/01", O_RDWR), ENOENT);
	FAILS(open("/dev/vfio/devices/vfio7", O_RDWR), ENOENT);
	FAILS(syscall(SYS_open, 8, O_RDWR), EFAULT);
	CHECK((fd = open("/dev/vfio/vfio", O_PATH)) >= 0);
	FAILS(ioctl(fd, VFIO_GET_API_VERSION), EBADF);
	return 0;
}

static int swapped; /* a number that is a device for one thread and a container for the other */
static atomic_uint turn;

static void *use_container(void *opaque)
{
	int container;

	CHECK(unshare(CLONE_FILES) == 0);
	container = open("/dev/vfio/vfio", O_RDWR);
	CHECK(dup2(container, swapped) == swapped);
	close(container);
	for (unsigned i = 0; i < 100; i++) {
		while (turn != 2 * i)
			sched_yield();
		CHECK(ioctl(swapped, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
		FAILS(ioctl(swapped, VFIO_DEVICE_RESET), EINVAL);
		turn++;
	}
	return NULL;
}

/* What a descriptor was a moment ago, or is for another thread, doesn't count. */
static int changing(void)
{
	int device = open_device(1), null = open("/dev/null", O_RDWR);
	pthread_t thread;

	swapped = 500;
	for (int i = 0; i < 100; i++) {
		int container = open("/dev/vfio/vfio", O_RDWR);

		CHECK(dup2(device, swapped) == swapped);
		check_device(swapped);
		CHECK(dup2(container, swapped) == swapped);
		CHECK(ioctl(swapped, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
		CHECK(dup2(null, swapped) == swapped);
		FAILS(ioctl(swapped, VFIO_GET_API_VERSION), ENOTTY);
		close(swapped);
		FAILS(ioctl(swapped, VFIO_GET_API_VERSION), EBADF);
		close(container);
	}
	CHECK(dup2(device, swapped) == swapped);
	CHECK(pthread_create(&thread, NULL, use_container, NULL) == 0);
	for (unsigned i = 0; i < 100; i++) {
		while (turn != 2 * i + 1)
			sched_yield();
		check_device(swapped);
		turn++;
	}
	pthread_join(thread, NULL);
	return 0;
}

static atomic_bool placing_is_over;

static void *place_others(void *opaque)
{
	int null = open("/dev/null", O_RDWR);
	struct stat expected, stat;

	CHECK(fstat(null, &expected) == 0);
	while (!placing_is_over) {
		int fds[8];

		for (int i = 0; i < 8; i++)
			fds[i] = i % 2 ? fcntl(null, F_DUPFD, 960)
				       : fcntl(null, F_DUPFD_CLOEXEC, 970);
		for (int i = 0; i < 8; i++) {
			CHECK(fds[i] >= 960 && fstat(fds[i], &stat) == 0);
			CHECK(stat.st_rdev == expected.st_rdev && stat.st_ino == expected.st_ino);
			close(fds[i]);
		}
	}
	return NULL;
}

/* Numbers are never taken away from what has them. */
static int numbers(void)
{
	int null = open("/dev/null", O_RDWR), container;
	struct stat expected, stat;
	pthread_t thread;

	CHECK(fstat(null, &expected) == 0);
	CHECK(pthread_create(&thread, NULL, place_others, NULL) == 0);
	for (int i = 0; i < 300; i++) {
		int fds[4];

		for (int j = 0; j < 4; j++)
			CHECK((fds[j] = open("/dev/vfio/vfio", O_RDWR)) >= 0);
		for (int j = 0; j < 4; j++) {
			CHECK(ioctl(fds[j], VFIO_GET_API_VERSION) == VFIO_API_VERSION);
			close(fds[j]);
		}
	}
	placing_is_over = true;
	pthread_join(thread, NULL);
	for (int i = 960; i < 1024; i++)
		CHECK(dup2(null, i) == i);
	container = open("/dev/vfio/vfio", O_RDWR);
	CHECK(container >= 0 && container < 960);
	CHECK(ioctl(container, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
	for (int i = 960; i < 1024; i++) {
		CHECK(fstat(i, &stat) == 0 && stat.st_rdev == expected.st_rdev);
		close(i);
	}
	/* Where the kernel could choose these numbers itself, we don't. */
	while (dup(null) < 900)
		continue;
	container = open("/dev/vfio/vfio", O_RDWR);
	CHECK(container >= 0 && container < 960);
	return 0;
}

/* The first ends; the second goes on, and is served. */
static int outlives(const char *descriptor)
{
	int told = (int)strtol(descriptor, NULL, 10), ends[2];
	char byte = 'x';

	CHECK(pipe(ends) == 0);
	if (fork() == 0) {
		close(ends[1]);
		CHECK(read(ends[0], &byte, 1) == 0); /* until the first has ended */
		check_device(open_device(1));
		CHECK(write(told, "+", 1) == 1);
		_exit(0);
	}
	return 5;
}

/*
 * Tells when it is there, and what its next call gives after the supervisor is gone: it is not the
 * program itself, which ends with the supervisor.
 */
static int orphaned(const char *descriptor)
{
	int told = (int)strtol(descriptor, NULL, 10);
	int device = open_device(1);
	uint32_t value;
	char byte = '+';

	if (fork() != 0)
		for (;;)
			pause();
	CHECK(write(told, &byte, 1) == 1);
	while (pread(device, &value, 4, CONFIG) == 4)
		sched_yield();
	if (errno == ENOSYS)
		CHECK(write(told, &byte, 1) == 1);
	return 0;
}

/* Others that don't end by themselves: in the background, with their parents gone. */
static int leaves_others(const char *descriptor)
{
	int told = (int)strtol(descriptor, NULL, 10);

	for (int i = 0; i < 3; i++) {
		if (fork() != 0)
			continue;
		setsid();
		CHECK(write(told, "+", 1) == 1);
		for (;;)
			pause();
	}
	close(told);
	for (;;)
		pause();
}

static int other_calls(void)
{
	FAILS(syscall(SYS_io_uring_setup, 4, NULL), ENOSYS);
	/* x32 */
	FAILS(syscall(0x40000000 | SYS_getpid), ENOSYS);
	CHECK(getpid() > 0);
	return 0;
}

static int often(void)
{
	int device = open_device(1);

	for (int i = 0; i < 2000; i++)
		check_device(device);
	return 0;
}

static const struct {
	const char *name;
	int (*plain)(void);
	int (*with)(const char *argument);
} cases[] = {
	{"exit_status", exit_status, NULL},
	{"end_by_signal", end_by_signal, NULL},
	{"signal_mask", signal_mask, NULL},
	{"duplicates", duplicates, NULL},
	{"inherited", NULL, inherited},
	{"reopened", reopened, NULL},
	{"threads", threads, NULL},
	{"slow", slow, NULL},
	{"slow_release", slow_release, NULL},
	{"blocked", blocked, NULL},
	{"accesses", accesses, NULL},
	{"stats", stats, NULL},
	{"paths", paths, NULL},
	{"numbers", numbers, NULL},
	{"changing", changing, NULL},
	{"outlives", NULL, outlives},
	{"orphaned", NULL, orphaned},
	{"leaves_others", NULL, leaves_others},
	{"other_calls", other_calls, NULL},
	{"often", often, NULL},
};

int main(int argc, char **argv)
{
	self = argv[0];
	for (size_t i = 0; argc > 1 && i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(argv[1], cases[i].name) == 0)
			return cases[i].plain ? cases[i].plain() : cases[i].with(argv[2]);
	}
	return 98;
}
