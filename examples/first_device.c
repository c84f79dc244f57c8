/* SPDX-License-Identifier: BSD-3-Clause */
/* A first device: adds up bytes of its driver's memory. docs/first-device.md explains each line. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uvfio/uvfio.h>

#define SUM_MAX 65536 /* bytes at a time: the driver decides how many, we how long it may take */

struct registers {
	uint64_t address; /* of the bytes, in the driver's memory */
	uint32_t length;
	uint32_t start; /* written: do it */
	uint64_t sum;
	uint64_t errors; /* how often it could not be done */
};

struct adder {
	struct registers registers;
};

static int add_up(struct uvf_device *dev, struct registers *registers)
{
	uint8_t bytes[SUM_MAX];
	int ret;

	if (registers->length > sizeof(bytes))
		return -EINVAL;
	ret = uvf_dma_read(dev, UVF_PASID_NONE, registers->address, bytes, registers->length);
	if (ret)
		return ret;
	registers->sum = 0;
	for (uint32_t i = 0; i < registers->length; i++)
		registers->sum += bytes[i];
	return 0;
}

static int adder_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		      size_t count)
{
	struct adder *adder = uvf_device_opaque(dev);

	memcpy(buf, (uint8_t *)&adder->registers + offset, count);
	return 0;
}

static int adder_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		       size_t count)
{
	struct adder *adder = uvf_device_opaque(dev);

	memcpy((uint8_t *)&adder->registers + offset, buf, count);
	if (offset == offsetof(struct registers, start)) {
		if (add_up(dev, &adder->registers))
			adder->registers.errors++;
		uvf_pci_msi(dev, 0);
	}
	return 0;
}

static int adder_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct adder *adder = uvf_device_opaque(dev);

	adder->registers = (struct registers){0};
	return 0;
}

static const struct uvf_device_ops ops = {.reset = adder_reset};
static const struct uvf_pci_capability msi = {.id = PCI_CAP_ID_MSI, .msi = {.vectors = 1}};
static const struct uvf_pci_description pci = {
	.vendor = 0x7576,
	.device = 0x00ff,
	.class_code = 0x088000, /* system peripheral, other */
	.bars[0] = {.kind = UVF_PCI_BAR_MEM32,
		    .size = sizeof(struct registers),
		    .read = adder_read,
		    .write = adder_write},
	.capabilities = &msi,
	.capability_count = 1,
};

int main(int argc, char **argv)
{
	struct uvf_server_config config = {.path = argc > 1 ? argv[1] : "adder.sock"};
	struct adder adder = {{0}};
	struct uvf_server *server;
	struct uvf_device *dev;
	struct uvf_error error = {""};

	if (uvf_pci_new("adder", &pci, &ops, &adder, &dev, &error) ||
	    uvf_server_new(dev, &config, &server, &error) || uvf_server_start(server))
		return fprintf(stderr, "first_device: %s\n", error.text), 1;
	getchar(); /* serve until our input ends */
	uvf_server_free(server);
	uvf_device_free(dev);
	return 0;
}
