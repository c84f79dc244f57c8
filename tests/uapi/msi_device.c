/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device with MSI, behind a socket until its input ends: msi-device SOCKET. For programs that
 * test what the models of the library have not.
 */
#include <stdio.h>
#include <string.h>
#include <uvfio/uvfio.h>

#define BAR_SIZE 4096

static uint8_t registers[BAR_SIZE];

static int read_registers(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
			  size_t count)
{
	memcpy(buf, registers + offset, count);
	return 0;
}

static int write_registers(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			   size_t count)
{
	memcpy(registers + offset, buf, count);
	return 0;
}

static int reset(struct uvf_device *dev, enum uvf_reset kind)
{
	memset(registers, 0, sizeof(registers));
	return 0;
}

int main(int argc, char **argv)
{
	static const struct uvf_device_ops ops = {.reset = reset};
	static const struct uvf_pci_capability msi = {
		.id = PCI_CAP_ID_MSI, .msi = {.vectors = 32, .maskable = true, .address64 = true}};
	static const struct uvf_pci_description pci = {
		.vendor = 0x7576,
		.device = 0x00fe,
		.class_code = 0x088000, /* system peripheral, other */
		.bars[0] = {.kind = UVF_PCI_BAR_MEM64,
			    .size = BAR_SIZE,
			    .read = read_registers,
			    .write = write_registers},
		.capabilities = &msi,
		.capability_count = 1,
	};
	struct uvf_server_config config = {.path = argc > 1 ? argv[1] : "msi.sock"};
	struct uvf_server *server;
	struct uvf_device *dev;
	struct uvf_error error = {""};

	if (uvf_pci_new("msi", &pci, &ops, NULL, &dev, &error) ||
	    uvf_server_new(dev, &config, &server, &error) || uvf_server_start(server)) {
		fprintf(stderr, "msi-device: %s\n", error.text);
		return 1;
	}
	getchar();
	uvf_server_free(server);
	uvf_device_free(dev);
	return 0;
}
