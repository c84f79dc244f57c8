/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI devices: a configuration space from a description, live afterwards.
 *
 * uvf_pci_new() makes a device with the regions and IRQ indexes that VFIO gives a PCI device
 * (VFIO_PCI_*), serves the configuration space, gates BARs by the command register and the power
 * state, gates DMA by Bus Master Enable, and keeps the MSI-X table and PBA. The model serves BARs.
 *
 * Access to a BAR whose space is off in the command register, or in D3hot, is as on the bus: reads
 * give all ones, writes are dropped, and neither is an error. Mapped areas can't be gated. The ROM
 * is read whatever its enable bit is, as VFIO does. A configuration space access of any size and
 * alignment is cut into naturally aligned ones of at most 4 bytes.
 *
 * Resets: all registers go back to what they were when made, but FLR, power management's and hot
 * resets leave alone what PCI Express says they do (AER's registers, for one). VFIO's own reset
 * and a change of owner leave nothing.
 *
 * Everything in the description is copied but the ROM's bytes and the operations.
 */
#ifndef UVFIO_PCI_H
#define UVFIO_PCI_H

#include <uvfio/device.h>
#include <uvfio/types.h>

UVF_BEGIN_DECLS

enum uvf_pci_bar_kind {
	UVF_PCI_BAR_NONE,
	UVF_PCI_BAR_MEM32,
	UVF_PCI_BAR_MEM64, /* takes the next BAR too, which must be NONE */
	UVF_PCI_BAR_IO,
};

/* A part of a BAR that the driver may map. Page aligned. Its bytes are at uvf_pci_bar_memory(). */
struct uvf_pci_bar_area {
	uint64_t offset;
	uint64_t size;
	uint32_t flags; /* UVF_AREA_* */
};

struct uvf_pci_bar {
	enum uvf_pci_bar_kind kind;
	bool prefetchable;
	uint64_t size; /* a power of two; memory at least 16, I/O at least 4 */
	/* As in struct uvf_region. The MSI-X table and PBA never get here: an access is cut. */
	int (*read)(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count);
	int (*write)(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count);
	const struct uvf_pci_bar_area *areas;
	size_t area_count;
	bool areas_change; /* as in struct uvf_region: see remap.h */
	const struct uvf_io_fd *io_fds;
	size_t io_fd_count;
};

/*
 * A capability in configuration space. @offset 0: the first free place, after those with an offset
 * have theirs. Extended ones need PCI Express, and the first of them is at 0x100.
 */
struct uvf_pci_capability {
	uint16_t id; /* PCI_CAP_ID_* or, with @extended, PCI_EXT_CAP_ID_* */
	bool extended;
	uint16_t offset;
	union {
		struct { /* PCI_CAP_ID_PM */
			bool no_soft_reset;
		} pm;
		struct {		 /* PCI_CAP_ID_MSI */
			uint8_t vectors; /* a power of two, at most 32 */
			bool maskable;
			bool address64;
		} msi;
		struct {		  /* PCI_CAP_ID_MSIX */
			uint16_t vectors; /* at most 2048 */
			uint8_t table_bar, pba_bar;
			uint32_t table_offset, pba_offset; /* 8-byte aligned */
		} msix;
		struct { /* PCI_CAP_ID_EXP */
			bool root_complex_integrated;
			bool flr;
			uint8_t max_payload; /* encoded: 0 is 128 bytes */
		} express;
		struct { /* PCI_EXT_CAP_ID_DSN */
			uint64_t serial;
		} dsn;
		struct { /* PCI_EXT_CAP_ID_ACS */
			uint16_t capabilities;
		} acs;
		struct { /* PCI_EXT_CAP_ID_ARI */
			uint8_t next_function;
		} ari;
		struct { /* PCI_CAP_ID_VNDR, PCI_EXT_CAP_ID_VNDR: after the header */
			const uint8_t *data;	 /* copied */
			const uint8_t *writable; /* mask, or NULL: read-only; copied */
			uint16_t size;		 /* of data, without the header */
			uint16_t vsec_id;	 /* extended: Vendor-Specific ID and Rev */
			uint8_t vsec_rev;
		} vendor;
	};
};

/*
 * A register of the model's own in configuration space, outside any capability: 4 bytes. The model
 * keeps its value, and resets it in its reset operation. Both are called with the device's lock
 * held.
 */
struct uvf_pci_register {
	uint16_t offset; /* aligned, 0x40 or above; from 0x100 on only with PCI Express */
	uint32_t (*read)(struct uvf_device *dev, uint16_t offset);
	/* @mask has the bytes that the driver writes; the others of @value are 0. NULL: read-only.
	 */
	void (*write)(struct uvf_device *dev, uint16_t offset, uint32_t value, uint32_t mask);
};

struct uvf_pci_description {
	uint16_t vendor, device;
	uint16_t subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: base class, subclass, interface */
	uint8_t revision;
	uint8_t interrupt_pin; /* 0: no INTx; 1: INTA ... */
	struct uvf_pci_bar bars[6];
	const void *rom; /* expansion ROM's bytes, or NULL; must stay. At most 16 MiB */
	uint64_t rom_size;
	const struct uvf_pci_capability *capabilities;
	size_t capability_count;
	const struct uvf_pci_register *registers;
	size_t register_count;
};

/*
 * Makes a PCI device. As uvf_device_new(); ops->reset is called for every kind of reset after the
 * configuration space has been reset.
 * Errors: -EINVAL with the reason in @error, -ENOMEM, -EMFILE.
 */
UVF_API int uvf_pci_new(const char *name, const struct uvf_pci_description *description,
			const struct uvf_device_ops *ops, void *opaque, struct uvf_device **devp,
			struct uvf_error *error);

/* Where the areas of a BAR are in this process, [0, size) of the BAR; NULL if it has none. */
UVF_API void *uvf_pci_bar_memory(struct uvf_device *dev, unsigned bar);

/*
 * Interrupts by message: signals @vector of MSI-X or MSI, whichever the driver has enabled
 * (vectors past the number enabled fold onto 0 for MSI). Obeys the function mask, the vector's mask
 * in the MSI-X table and MSI's mask bits, and sets the pending bit of a masked one, which is
 * signalled when unmasked.
 * Returns false where neither is enabled: the model then drives its pin. Thread-safe.
 *
 * Enabled means by VFIO_DEVICE_SET_IRQS, whatever the enable bits in the configuration space are:
 * those are a record for the driver. (MSI folds by Multiple Message Enable once MSI Enable is set;
 * before, a vector is signalled as it is.) An entry of the MSI-X table reads as masked after a
 * reset, as it must, but its mask counts only from the driver's first write to that entry on: a
 * virtual machine monitor keeps the table itself and never writes this one. Function Mask always
 * counts.
 */
UVF_API bool uvf_pci_msi(struct uvf_device *dev, uint32_t vector);
/*
 * Drives the INTx pin. Obeys Interrupt Disable; sets Interrupt Status. Thread-safe.
 */
UVF_API void uvf_pci_intx(struct uvf_device *dev, bool asserted);

/*
 * Records an error in the AER capability (status bit @bit of the uncorrectable or correctable
 * status register, with @header logged), and triggers the ERR index for one that is not masked.
 * Errors: -ENOTTY (no AER), -EINVAL. With the device's lock held.
 */
UVF_API int uvf_pci_inject_error(struct uvf_device *dev, bool correctable, unsigned bit,
				 const uint32_t header[4]);

/* Where a capability is, or 0. */
UVF_API uint16_t uvf_pci_find_capability(struct uvf_device *dev, uint16_t id, bool extended);

UVF_END_DECLS

#endif
