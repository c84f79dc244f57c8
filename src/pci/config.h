/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A configuration space: private to the PCI core.
 *
 * What a capability is, is said by one constant row (struct pci_capability_class) with a constant
 * table of registers. A device has the bytes, the values after a reset, and for each dword which
 * capability owns it; an access is dispatched through the owner's table, so it can't touch another
 * capability's bytes. Dwords that the model owns are its own; bytes that nobody owns are zero and
 * stay so.
 *
 * Locks: the bytes are the device lock's. What interrupts need from any thread (pending bits and
 * copies of the masks) is in struct pci_interrupts, under its own lock, taken after the device's.
 */
#ifndef UVF_PCI_CONFIG_H
#define UVF_PCI_CONFIG_H

#include <pthread.h>
#include <uvfio/migration.h>
#include <uvfio/pci.h>

#define PCI_BARS	     6
#define PCI_HEADER_SIZE	     0x40
#define PCI_CONFIG_SIZE	     0x100  /* without PCI Express */
#define PCI_CONFIG_SIZE_EXP  0x1000 /* with it */
#define PCI_MAX_CAPABILITIES 253    /* an owner is one byte: 0 is nobody, 1 the header */
#define PCI_OWNER_MODEL	     0xff   /* the owner of the model's own registers */

struct uvf_pci;
struct pci_capability;

/* A write as a register's hook sees it: after the bytes are merged. */
struct pci_write {
	uint16_t offset;  /* of the register, in its capability */
	uint32_t written; /* what the driver wrote; bytes that it didn't are 0 */
	uint32_t before;
	uint32_t after;
};

/*
 * A register, or @count of them one after the other. A bit that is in no mask is fixed. A table
 * ends with a row of size 0.
 */
struct pci_register {
	uint16_t offset; /* in the capability, aligned to the size */
	uint8_t size;	 /* 1, 2 or 4 */
	uint16_t count;	 /* 0 means 1 */
	uint32_t writable;
	uint32_t clear;	  /* a written 1 clears the bit */
	uint32_t virtual; /* the device's own doing changes it, a write doesn't */
	uint32_t sticky;  /* survives FLR, power management's and hot reset */
	uint32_t kept;	  /* survives FLR and power management's reset, not a hot one */
	/* The bits that this device's register has; the others are fixed. NULL: all. */
	uint32_t (*exists)(const struct uvf_pci *pci, const struct pci_capability *capability,
			   uint16_t offset);
	/* What the virtual bits are now, or-ed to what is stored. */
	uint32_t (*read)(struct uvf_pci *pci, const struct pci_capability *capability);
	/* Once for each access that touches the register. */
	void (*written)(struct uvf_pci *pci, const struct pci_capability *capability,
			const struct pci_write *write);
};

struct pci_capability_class {
	const char *name;
	uint16_t id;
	bool extended;
	uint8_t version;  /* extended ones */
	bool repeatable;  /* may be there more than once */
	uint16_t minimum; /* size, where it is the same for all */
	/* Table; or, where the layout depends on the description, a choice of tables. */
	const struct pci_register *registers;
	const struct pci_register *(*layout)(const struct uvf_pci_capability *given);
	/* Bytes, head included, where they depend on the description. */
	size_t (*size)(const struct uvf_pci_capability *given);
	/* Whether the description makes sense. NULL: any does. */
	int (*check)(const struct uvf_pci_description *description,
		     const struct uvf_pci_capability *given, struct uvf_error *error);
	/* Fills in the values after a reset. Errors: -ENOMEM. */
	int (*init)(struct uvf_pci *pci, const struct pci_capability *capability,
		    const struct uvf_pci_capability *given);
	/* The bytes have their values after a reset: the rest of the state follows. */
	void (*reset)(struct uvf_pci *pci, const struct pci_capability *capability);
};

/* A capability of one device. The header is the first, at 0. */
struct pci_capability {
	const struct pci_capability_class *class;
	const struct pci_register *registers;
	uint16_t offset;
	uint16_t size; /* a multiple of 4 */
};

struct pci_bar {
	enum uvf_pci_bar_kind kind;
	bool prefetchable;
	uint64_t size;
	int (*read)(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count);
	int (*write)(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count);
	void *memory; /* behind its areas, or NULL */
};

/* MSI-X table and Pending Bit Array. */
struct pci_msix {
	uint16_t vectors; /* 0: the device has no MSI-X */
	uint8_t table_bar, pba_bar;
	uint32_t table_offset, pba_offset;
	bool function_masked;
	uint8_t *table;
	uint64_t *pending;
	uint64_t *programmed; /* entries that the driver has written since the reset */
};

struct pci_msi {
	uint8_t vectors; /* 0: the device has no MSI */
	uint8_t folds;	 /* vectors from here up become 0 */
	uint32_t masked;
	uint32_t pending;
};

struct pci_interrupts {
	pthread_mutex_t lock;
	bool pin; /* there is an INTx */
	bool asserted;
	bool disabled; /* Interrupt Disable */
	struct pci_msi msi;
	struct pci_msix msix;
};

struct uvf_pci {
	struct uvf_device *dev;
	struct pci_interrupts interrupts;
	struct pci_bar bars[PCI_BARS];
	const void *rom;
	uint64_t rom_size;
	const struct pci_capability *power; /* NULL: always in D0 */
	bool bus_master;		    /* as the core was last told */
	uint16_t config_size;
	uint8_t *config;
	uint8_t *initial;	  /* the values after a reset */
	uint8_t *vendor_writable; /* vendor capabilities' masks, at their places; or NULL */
	uint8_t *owners;	  /* for each dword: 1 + the owner's place in capabilities; 0 */
	struct pci_capability *capabilities;
	size_t capability_count;
	struct uvf_pci_register *registers; /* the model's own */
	size_t register_count;
};

/* ---- config.c: access ---- */

int pci_config_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count);
int pci_config_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count);
void pci_config_reset(struct uvf_pci *pci, enum uvf_reset kind);
/* Whether @bytes, config_size of them, can be another device's of the same make. */
bool pci_config_is_alike(const struct uvf_pci *pci, const uint8_t *bytes);
/* Takes over such bytes. */
void pci_config_load(struct uvf_pci *pci, const uint8_t *bytes);

/* A register's stored bytes, by its place in a capability. */
uint16_t pci_get16(const struct uvf_pci *pci, const struct pci_capability *capability,
		   uint16_t offset);
uint32_t pci_get32(const struct uvf_pci *pci, const struct pci_capability *capability,
		   uint16_t offset);
void pci_put16(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
	       uint16_t value);
void pci_put32(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
	       uint32_t value);
/* The value after a reset. */
void pci_init8(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
	       uint8_t value);
void pci_init16(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
		uint16_t value);
void pci_init32(struct uvf_pci *pci, const struct pci_capability *capability, uint16_t offset,
		uint32_t value);

const struct pci_capability *pci_find(const struct uvf_pci *pci, uint16_t id, bool extended);

/* ---- migration.c ---- */

extern const char *const pci_sections[];
int pci_save(struct uvf_device *dev, struct uvf_state_writer *writer);
int pci_load(struct uvf_device *dev, struct uvf_state_reader *reader);

/* ---- describe.c, layout.c: from a description to a configuration space ---- */

int pci_describe_check(const struct uvf_pci_description *description, struct uvf_error *error);
const struct pci_capability_class *pci_class_find(uint16_t id, bool extended);
int pci_layout(struct uvf_pci *pci, const struct uvf_pci_description *description,
	       struct uvf_error *error);

/* ---- header.c ---- */

void pci_header_init(struct uvf_pci *pci, const struct uvf_pci_description *description);
/* Whether accesses to @bar are answered: its space is enabled and the device is in D0. */
bool pci_bar_enabled(const struct uvf_pci *pci, unsigned bar);
/* Tells the core whether DMA is on: Bus Master Enable, in D0. */
void pci_update_bus_master(struct uvf_pci *pci);
/* Size of the ROM BAR: a power of two; 0 without a ROM. */
uint64_t pci_rom_bar_size(uint64_t rom_size);

/* ---- bar.c ---- */

int pci_add_regions(struct uvf_pci *pci, const struct uvf_pci_description *description,
		    struct uvf_error *error);

/* ---- interrupt.c ---- */

void pci_interrupts_init(struct uvf_pci *pci, const struct uvf_pci_description *description);
int pci_add_irqs(struct uvf_pci *pci);
void pci_interrupts_free(struct uvf_pci *pci);
void pci_intx_disable(struct uvf_pci *pci, bool disable);
void pci_intx_reset(struct uvf_pci *pci);
bool pci_intx_asserted(struct uvf_pci *pci);
/* The driver has changed the vectors of @index. */
void pci_irq_changed(struct uvf_device *dev, uint32_t index);

/* ---- cap_pm.c ---- */

bool pci_powered(const struct uvf_pci *pci); /* in D0 */

/* ---- cap_msi.c, cap_msix.c: with the interrupts' lock held ---- */

void pci_msi_raise(struct uvf_pci *pci, uint32_t vector);
void pci_msi_deliver(struct uvf_pci *pci);
void pci_msix_raise(struct uvf_pci *pci, uint32_t vector);
void pci_msix_deliver(struct uvf_pci *pci);

/* ---- cap_msix.c: the table and the PBA, by their place in them; they take the lock ---- */

uint64_t pci_msix_table_size(unsigned vectors);
uint64_t pci_msix_pba_size(unsigned vectors);
void pci_msix_table_read(struct uvf_pci *pci, uint64_t offset, void *buf, size_t count);
void pci_msix_table_write(struct uvf_pci *pci, uint64_t offset, const void *buf, size_t count);
void pci_msix_pba_read(struct uvf_pci *pci, uint64_t offset, void *buf, size_t count);

/* ---- cap_express.c ---- */

/* Records an error's class in Device Status. */
void pci_express_error(struct uvf_pci *pci, uint16_t device_status);

extern const struct pci_capability_class pci_header;
extern const struct pci_capability_class pci_cap_pm;
extern const struct pci_capability_class pci_cap_msi;
extern const struct pci_capability_class pci_cap_msix;
extern const struct pci_capability_class pci_cap_express;
extern const struct pci_capability_class pci_cap_vendor;
extern const struct pci_capability_class pci_ext_aer;
extern const struct pci_capability_class pci_ext_dsn;
extern const struct pci_capability_class pci_ext_vendor;
extern const struct pci_capability_class pci_ext_acs;
extern const struct pci_capability_class pci_ext_ari;

#endif
