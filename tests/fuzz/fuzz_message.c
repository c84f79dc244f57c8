/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes into a real server: the input is cut into pieces, some of them with descriptors, that are
 * sent to it one after the other; what it answers is read and thrown away, except that its own
 * requests are answered. Whatever comes, the server goes on to serve the next client.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "base/fdpass.h"
#include "wire/wire.h"

#define PAGE 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	struct uvf_device *dev;
	struct uvf_server *server;
	struct sockaddr_un address;
	socklen_t address_size;
	uint8_t registers[PAGE];
	int file, event;
} target;

static void must(bool holds)
{
	if (!holds)
		abort();
}

static int region_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	memcpy(buf, target.registers + offset, count);
	return 0;
}

/* The first 16 bytes start a DMA: memory of the client's is read and written. */
static int region_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count)
{
	uint64_t address;
	uint8_t bytes[64];

	memcpy(target.registers + offset, buf, count);
	if (offset < 16) {
		memcpy(&address, target.registers, sizeof(address));
		uvf_irq_trigger(dev, VFIO_PCI_MSIX_IRQ_INDEX, (uint32_t)address);
		uvf_device_set_bus_master(dev, true);
		uvf_dma_read(dev, UVF_PASID_NONE, address, bytes, sizeof(bytes));
		uvf_dma_write(dev, UVF_PASID_NONE, address, bytes, sizeof(bytes));
	}
	return 0;
}

static int reset(struct uvf_device *dev, enum uvf_reset kind)
{
	memset(target.registers, 0, sizeof(target.registers));
	return 0;
}

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	return uvf_state_write_bytes(writer, (struct uvf_state_section){.name = "registers"},
				     target.registers, sizeof(target.registers));
}

static int load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	const void *bytes;
	ssize_t size = uvf_state_read_bytes(reader, "registers", 0, &bytes);

	if (size != (ssize_t)sizeof(target.registers))
		return -EINVAL;
	memcpy(target.registers, bytes, sizeof(target.registers));
	return 0;
}

static void make_device(void)
{
	static const char *const sections[] = {"registers", NULL};
	static const struct uvf_migration_ops migration = {
		.name = "fuzz",
		.major = 1,
		.sections = sections,
		.save = save,
		.save_early = save,
		.load = load,
	};
	static const struct uvf_device_ops ops = {.reset = reset};
	const struct uvf_irq irqs[] = {
		{VFIO_PCI_INTX_IRQ_INDEX, 1,
		 VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED},
		{VFIO_PCI_MSIX_IRQ_INDEX, 8, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE},
	};
	struct uvf_area area = {PAGE, PAGE, -1, 0, UVF_AREA_NOT_WHILE_SAVING};
	struct uvf_io_fd io_fd = {32, 4, target.event, true, 5};
	struct uvf_region region = {
		.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
		.size = 2 * PAGE,
		.type = 9,
		.read = region_read,
		.write = region_write,
		.areas = &area,
		.area_count = 1,
		.areas_change = true,
		.io_fds = &io_fd,
		.io_fd_count = 1,
	};
	void *address;

	must(!uvf_device_new("fuzz", &ops, VFIO_DEVICE_FLAGS_PCI, NULL, &target.dev));
	must(!uvf_device_region_memory(target.dev, 0, 2 * PAGE, &area.fd, &area.fd_offset,
				       &address));
	area.fd_offset += PAGE;
	must(!uvf_device_add_region(target.dev, &region));
	for (size_t i = 0; i < sizeof(irqs) / sizeof(irqs[0]); i++)
		must(!uvf_device_add_irq(target.dev, &irqs[i]));
	uvf_device_set_migration(target.dev, &migration);
	/* Who never follows holds nobody up. */
	uvf_device_set_remap_timeout(target.dev, 1);
}

static void make_target(void)
{
	struct uvf_server_config config = {.max_data_xfer_size = PAGE, .client_timeout_ms = 1};

	target.file = memfd_create("fuzz", MFD_CLOEXEC);
	target.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(!ftruncate(target.file, 4 * PAGE));
	make_device();
	/* A name that the kernel chooses and that is no file. */
	config.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	target.address.sun_family = AF_UNIX;
	must(!bind(config.fd, (struct sockaddr *)&target.address, sizeof(sa_family_t)));
	target.address_size = sizeof(target.address);
	must(!getsockname(config.fd, (struct sockaddr *)&target.address, &target.address_size));
	must(!listen(config.fd, 8));
	must(!uvf_server_new(target.dev, &config, &target.server, NULL));
}

static void step(int sock)
{
	uint8_t answer[2 * PAGE];
	int fds[UVF_FDPASS_MAX];
	size_t fd_count;

	must(uvf_server_process(target.server) >= 0);
	while (uvf_fdpass_receive(sock, answer, sizeof(answer), fds, UVF_FDPASS_MAX, &fd_count,
				  MSG_DONTWAIT) > 0)
		uvf_fdpass_close(fds, fd_count);
}

static void say_version(int sock)
{
	struct {
		struct uvf_wire_header header;
		struct uvf_wire_version version;
	} hello = {{0, VFIO_USER_VERSION, 20, 0, 0}, {0, 0}};

	must(send(sock, &hello, sizeof(hello), 0) == sizeof(hello));
	step(sock);
}

/*
 * Input: a byte, whose lowest bit is off for a client that says VERSION by itself; then pieces: a
 * byte of how many descriptors (low 2 bits) and of what kind (next bit), a byte of length, bytes.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int sock;

	if (!target.server)
		make_target();
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(!connect(sock, (struct sockaddr *)&target.address, target.address_size));
	if (size && !(data[0] & 1))
		say_version(sock);
	data += size != 0;
	size -= size != 0;
	while (size > 2) {
		size_t fd_count = data[0] & 3, length = data[1];
		int fd = data[0] & 4 ? target.event : target.file, fds[3] = {fd, fd, fd};
		struct iovec iov;

		data += 2;
		size -= 2;
		if (length > size)
			length = size;
		iov = (struct iovec){(void *)data, length};
		if (length && uvf_fdpass_send(sock, &iov, 1, fds, fd_count, MSG_DONTWAIT) < 0)
			break;
		data += length;
		size -= length;
		step(sock);
	}
	close(sock);
	while (uvf_server_process(target.server) > 0)
		;
	/* The next client is served. */
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(!connect(sock, (struct sockaddr *)&target.address, target.address_size));
	say_version(sock);
	close(sock);
	must(uvf_server_process(target.server) >= 0);
	return 0;
}
