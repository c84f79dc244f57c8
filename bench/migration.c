/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long a device is away when it moves, by the size of its state: a controller with so much
 * memory, to another one in this process, through a unix socket, as two threads.
 *
 * Away is from when it is told to stop until the other one runs. The floor is a bare copy of as
 * many bytes as move meanwhile, over the same kind of socket by the same threads' reads and writes.
 * And what PRE_COPY costs the device: writes a second while its state is read, beside those without
 * (shown as the floor). --json gives the same figures for programs.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uvfio/client.h>
#include <uvfio/migration.h>
#include <uvfio/model.h>

#include "measure.h"
#include "nvme_driver.h"

#define MIB    (1ULL << 20)
#define CHUNK  (256u << 10)
#define BLOCK  4096u
#define ROUNDS 5

/* Of the driver that writes while its device moves. */
#define WRITES_A_SECOND 2000

static struct table table;

/* ---- The way there ---- */

static void write_all(int fd, const uint8_t *bytes, size_t size)
{
	while (size) {
		ssize_t put = write(fd, bytes, size);

		need(put < 0 ? -errno : 0, "socket");
		bytes += put;
		size -= (size_t)put;
	}
}

struct receiver {
	int fd;
	struct uvf_device *dev; /* NULL: what comes is dropped */
	double ended;
	pthread_t thread;
};

static void *receive(void *opaque)
{
	struct receiver *receiver = opaque;
	uint8_t *bytes = malloc(CHUNK);
	ssize_t got;

	need(bytes ? 0 : -ENOMEM, "memory");
	while ((got = read(receiver->fd, bytes, CHUNK)) > 0)
		if (receiver->dev)
			need(uvf_migration_write(receiver->dev, bytes, (size_t)got), "the state");
	need(got < 0 ? -errno : 0, "socket");
	if (receiver->dev)
		need(uvf_migration_set_state(receiver->dev, VFIO_DEVICE_STATE_RUNNING), "run");
	receiver->ended = now();
	free(bytes);
	return NULL;
}

/* Returns the end to write to. */
static int receiver_start(struct receiver *receiver, struct uvf_device *dev)
{
	int fds[2];

	need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) ? -errno : 0, "socket");
	*receiver = (struct receiver){.fd = fds[0], .dev = dev};
	need(-pthread_create(&receiver->thread, NULL, receive, receiver), "thread");
	return fds[1];
}

/* Nothing more comes: returns when it was done with. */
static double receiver_end(struct receiver *receiver, int fd)
{
	close(fd);
	pthread_join(receiver->thread, NULL);
	close(receiver->fd);
	return receiver->ended;
}

static double bare_copy(uint64_t size)
{
	uint8_t *bytes = malloc(CHUNK);
	struct receiver receiver;
	double begin;
	int fd;

	need(bytes ? 0 : -ENOMEM, "memory");
	memset(bytes, 0x5a, CHUNK);
	fd = receiver_start(&receiver, NULL);
	begin = now();
	for (uint64_t left = size; left; left -= left < CHUNK ? left : CHUNK)
		write_all(fd, bytes, left < CHUNK ? (size_t)left : CHUNK);
	free(bytes);
	return receiver_end(&receiver, fd) - begin;
}

/* Sends what there is now; returns how much. */
static uint64_t send_state(struct uvf_device *dev, int fd, uint8_t *bytes)
{
	uint64_t total = 0;
	ssize_t got;

	while ((got = uvf_migration_read(dev, bytes, CHUNK)) > 0) {
		write_all(fd, bytes, (size_t)got);
		total += (uint64_t)got;
	}
	need(got == -ENOMSG ? 0 : got, "the state");
	return total;
}

/* ---- The device and its driver ---- */

struct side {
	struct uvf_device *dev;
	struct nvme_driver *driver;
	uint8_t *buffer;
	uvf_iova_t iova;
	uint64_t blocks; /* of BLOCK bytes */
	uint32_t ratio;	 /* blocks of the device in one */
};

static struct uvf_device *new_device(uint64_t size, const char *more)
{
	struct uvf_error error = {""};
	struct uvf_device *dev;
	char spec[96];
	int ret;

	snprintf(spec, sizeof(spec), "nvme,mem=%lluM,serial=bench%s",
		 (unsigned long long)(size / MIB), more);
	ret = uvf_model_create(spec, &dev, &error);
	need(ret, error.text);
	return dev;
}

static void pin_to(unsigned core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Two that poll: on a core each, or they wait for each other's time to be over. */
static struct uvf_device *new_device_apart(uint64_t size, const char *more, cpu_set_t *all)
{
	struct uvf_device *dev;
	unsigned core = 0, other;

	sched_getaffinity(0, sizeof(*all), all);
	while (!CPU_ISSET(core, all))
		core++;
	for (other = core + 1; other < CPU_SETSIZE && !CPU_ISSET(other, all);)
		other++;
	if (other == CPU_SETSIZE)
		other = core;
	pin_to(other);
	dev = new_device(size, more);
	pin_to(core);
	return dev;
}

/* All of it has something in it. */
static void side_begin(struct side *side, struct uvf_device *dev, uint64_t size)
{
	const struct nvme_driver_config config = {.depth = 32};
	struct nvme_driver_queue *queue;
	struct uvf_error error = {""};
	uint32_t most;
	int ret;

	*side = (struct side){.dev = dev, .blocks = size / BLOCK};
	ret = nvme_driver_open(side->dev, &config, &side->driver, &error);
	need(ret, error.text);
	side->buffer = nvme_driver_alloc(side->driver, CHUNK, &side->iova);
	need(side->buffer ? 0 : -ENOMEM, "memory");
	memset(side->buffer, 0xa5, CHUNK);
	queue = nvme_driver_queue(side->driver, 0);
	side->ratio = BLOCK / nvme_driver_get_info(side->driver)->block_size;
	most = nvme_driver_get_info(side->driver)->max_transfer / BLOCK;
	most = most < CHUNK / BLOCK ? most : CHUNK / BLOCK;
	for (uint64_t n = 0; n < side->blocks; n += most)
		need(nvme_driver_io(queue, NVME_IO_WRITE, n * side->ratio, most * side->ratio,
				    side->iova),
		     "fill");
}

static void side_end(struct side *side)
{
	nvme_driver_close(side->driver);
	uvf_device_free(side->dev);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* ---- Away ---- */

struct writer {
	struct side *side;
	atomic_bool stop;
	pthread_t thread;
};

/* As many writes a second as said; in the end none is in progress. */
static void *write_slowly(void *opaque)
{
	const struct timespec pause = {.tv_nsec = 1000000000 / WRITES_A_SECOND};
	struct writer *writer = opaque;
	struct side *side = writer->side;
	struct nvme_driver_queue *queue = nvme_driver_queue(side->driver, 0);
	uint64_t state = 88172645463325252ULL;

	while (!atomic_load(&writer->stop)) {
		need(nvme_driver_io(queue, NVME_IO_WRITE,
				    next_random(&state) % side->blocks * side->ratio, side->ratio,
				    side->iova),
		     "write");
		nanosleep(&pause, NULL);
	}
	return NULL;
}

enum way { STOPPED, IDLE, WRITTEN_TO, WAYS };

static const char *const names[WAYS] = {
	"stopped all the while",
	"after PRE_COPY, idle",
	"after PRE_COPY, written to",
};

static void send_early(struct side *side, enum way way, int fd, uint8_t *bytes)
{
	struct writer writer = {.side = side};
	uint64_t initial, dirty;

	need(uvf_migration_set_state(side->dev, VFIO_DEVICE_STATE_PRE_COPY), "PRE_COPY");
	if (way == WRITTEN_TO)
		need(-pthread_create(&writer.thread, NULL, write_slowly, &writer), "thread");
	do {
		ssize_t got = uvf_migration_read(side->dev, bytes, CHUNK);

		need(got == -ENOMSG ? 0 : got, "the state");
		if (got > 0)
			write_all(fd, bytes, (size_t)got);
		need(uvf_migration_precopy_info(side->dev, &initial, &dirty), "how much");
	} while (initial || dirty > 8 * MIB);
	if (way == WRITTEN_TO) {
		atomic_store(&writer.stop, true);
		pthread_join(writer.thread, NULL);
	}
}

/* Microseconds away. @sent: bytes that moved meanwhile. */
static double move(struct side *side, enum way way, uint64_t *sent)
{
	struct uvf_device *to = new_device(side->blocks * BLOCK, "");
	uint8_t *bytes = malloc(CHUNK);
	struct receiver receiver;
	double begin, ended;
	int fd;

	need(bytes ? uvf_device_open(to) : -ENOMEM, "open");
	need(uvf_migration_set_state(to, VFIO_DEVICE_STATE_RESUMING), "RESUMING");
	fd = receiver_start(&receiver, to);
	if (way != STOPPED)
		send_early(side, way, fd, bytes);
	begin = now();
	need(uvf_migration_set_state(side->dev, VFIO_DEVICE_STATE_STOP_COPY), "STOP_COPY");
	*sent = send_state(side->dev, fd, bytes);
	ended = receiver_end(&receiver, fd);
	/* It goes on here, for the next one. */
	need(uvf_migration_set_state(side->dev, VFIO_DEVICE_STATE_RUNNING), "RUNNING");
	uvf_device_close(to);
	uvf_device_free(to);
	free(bytes);
	return (ended - begin) / 1000;
}

static void measure_away(uint64_t size)
{
	struct side side;

	side_begin(&side, new_device(size, ""), size);
	for (enum way way = 0; way < WAYS; way++) {
		unsigned rounds = size >= 256 * MIB ? 3 : ROUNDS;
		double took[ROUNDS], floors[ROUNDS];
		uint64_t sent = 0;
		char name[64];

		for (unsigned i = 0; i < rounds; i++) {
			took[i] = move(&side, way, &sent);
			floors[i] = bare_copy(sent) / 1000;
		}
		snprintf(name, sizeof(name), "%llu MiB, %s", (unsigned long long)(size / MIB),
			 names[way]);
		print(&table, name, 0, median(took, rounds), median(floors, rounds), "us");
	}
	side_end(&side);
}

/* ---- Beside PRE_COPY ---- */

/* Random writes of 4 KiB for a while; a second's number. */
static double write_rate(struct side *side, double seconds)
{
	struct nvme_driver_queue *queue = nvme_driver_queue(side->driver, 0);
	uint32_t nsid = nvme_driver_get_info(side->driver)->nsid;
	uint64_t state = 88172645463325252ULL, count = 0;
	unsigned depth = nvme_driver_get_info(side->driver)->depth, busy = 0;
	double begin = now(), end = begin + seconds * 1e9;

	do {
		struct nvme_driver_done done[32];
		int n;

		for (; now() < end && busy < depth; busy++)
			nvme_driver_fill(nvme_driver_prepare(queue), NVME_IO_WRITE, nsid,
					 next_random(&state) % side->blocks * side->ratio,
					 side->ratio, side->iova, 0);
		nvme_driver_ring(queue);
		n = nvme_driver_poll(queue, done, 32);
		need(n, "write");
		busy -= (unsigned)n;
		count += (unsigned)n;
	} while (busy);
	return (double)count / ((now() - begin) / 1e9);
}

struct reader {
	struct uvf_device *dev;
	cpu_set_t cores;
	atomic_bool stop;
	atomic_ullong total;
	pthread_t thread;
};

/* About as quick as a network of 1 Gbit/s: there are two cores for the driver and the device. */
static void *read_slowly(void *opaque)
{
	const struct timespec moment = {.tv_nsec = 2000000};
	struct reader *reader = opaque;
	uint8_t *bytes = malloc(CHUNK);

	need(bytes ? 0 : -ENOMEM, "memory");
	sched_setaffinity(0, sizeof(reader->cores), &reader->cores);
	while (!atomic_load(&reader->stop)) {
		ssize_t got = uvf_migration_read(reader->dev, bytes, CHUNK);

		need(got == -ENOMSG ? 0 : got, "the state");
		if (got > 0)
			atomic_fetch_add(&reader->total, (unsigned long long)got);
		nanosleep(&moment, NULL);
	}
	free(bytes);
	return NULL;
}

static void measure_beside(void)
{
	double off[ROUNDS], noted[ROUNDS], beside[ROUNDS], rates[ROUNDS];
	struct side side;
	cpu_set_t all;

	side_begin(&side, new_device_apart(256 * MIB, ",poll=on", &all), 256 * MIB);
	write_rate(&side, 0.2);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct reader reader = {.dev = side.dev, .cores = all};
		double begin;

		off[i] = write_rate(&side, 0.3);
		need(uvf_migration_set_state(side.dev, VFIO_DEVICE_STATE_PRE_COPY), "PRE_COPY");
		noted[i] = write_rate(&side, 0.3);
		need(-pthread_create(&reader.thread, NULL, read_slowly, &reader), "thread");
		begin = now();
		beside[i] = write_rate(&side, 0.3);
		atomic_store(&reader.stop, true);
		pthread_join(reader.thread, NULL);
		rates[i] = (double)reader.total / (now() - begin) * 1e9 / (double)MIB;
		need(uvf_migration_set_state(side.dev, VFIO_DEVICE_STATE_RUNNING), "RUNNING");
	}
	print(&table, "4 KiB writes, PRE_COPY on, nobody reads", 0, median(noted, ROUNDS),
	      median(off, ROUNDS), "IOPS");
	print(&table, "4 KiB writes, PRE_COPY being read", 0, median(beside, ROUNDS),
	      median(off, ROUNDS), "IOPS");
	print(&table, "what is read meanwhile", 0, median(rates, ROUNDS), 0, "MiB/s");
	side_end(&side);
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = {1, 16, 128, 1024};

	table.json = argc == 2 && !strcmp(argv[1], "--json");
	if (argc > 1 && !table.json) {
		fprintf(stderr, "usage: %s [--json]\n", argv[0]);
		return 2;
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		measure_away(sizes[i] * MIB);
	measure_beside();
	end_table(&table);
	return 0;
}
