/* SPDX-License-Identifier: BSD-3-Clause */
/* A first driver, of first_device: memory, registers, an interrupt. docs/first-device.md */
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#define MEMORY_SIZE    4096u
#define MEMORY_IOVA    0x10000u
#define BAR0	       VFIO_PCI_BAR0_REGION_INDEX
#define CONFIG	       VFIO_PCI_CONFIG_REGION_INDEX
#define REGISTER_START 12u
#define REGISTER_SUM   16u

static void check(const char *what, int64_t result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "first_driver: %s: %s\n", what, strerror((int)-result));
	exit(1);
}

/* Memory that the device process can map too, at an address of its own for the device. */
static uint8_t *share_memory(struct uvf_device *dev)
{
	struct uvf_address_space *space;
	int fd = memfd_create("first_driver", MFD_CLOEXEC);
	void *memory;

	check("memfd", ftruncate(fd, MEMORY_SIZE));
	memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		exit(1);
	check("address space", uvf_address_space_new(NULL, &space));
	check("map", uvf_map_fd(space, MEMORY_IOVA, MEMORY_SIZE, UVF_PROT_RW, fd, 0));
	check("attach", uvf_device_attach(dev, UVF_PASID_NONE, space));
	uvf_address_space_put(space); /* the attachment keeps it */
	close(fd);
	return memory;
}

/* An eventfd that the device's first message signals. */
static int take_interrupt(struct uvf_device *dev)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSI_IRQ_INDEX,
		.count = 1,
		.fds = &fd,
	};

	check("interrupt", uvf_irq_set(dev, &set));
	return fd;
}

int main(int argc, char **argv)
{
	struct uvf_client_config config = {.path = argc > 1 ? argv[1] : "adder.sock"};
	const uint16_t command = htole16(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	struct {
		uint64_t address;
		uint32_t length;
	} job = {htole64(MEMORY_IOVA), htole32(MEMORY_SIZE)};
	const uint32_t start = htole32(1);
	struct uvf_error error = {""};
	struct uvf_device *dev;
	uint64_t sum, expected = 0;
	eventfd_t count;
	uint8_t *memory;
	int interrupt;

	if (uvf_client_connect(&config, &dev, &error))
		return fprintf(stderr, "first_driver: %s\n", error.text), 1;
	check("open", uvf_device_open(dev));
	memory = share_memory(dev);
	interrupt = take_interrupt(dev);
	for (unsigned i = 0; i < MEMORY_SIZE; i++)
		expected += memory[i] = (uint8_t)(i * 37);

	check("command", uvf_region_write(dev, CONFIG, PCI_COMMAND, &command, sizeof(command)));
	check("address", uvf_region_write(dev, BAR0, 0, &job, 12));
	check("start", uvf_region_write(dev, BAR0, REGISTER_START, &start, sizeof(start)));
	check("wait", eventfd_read(interrupt, &count));
	check("sum", uvf_region_read(dev, BAR0, REGISTER_SUM, &sum, sizeof(sum)));

	printf("sum %" PRIu64 ", expected %" PRIu64 ", interrupts %" PRIu64 "\n", le64toh(sum),
	       expected, count);
	uvf_device_close(dev);
	uvf_device_free(dev);
	close(interrupt);
	munmap(memory, MEMORY_SIZE);
	return le64toh(sum) != expected || count != 1;
}
