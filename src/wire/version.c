/* SPDX-License-Identifier: BSD-3-Clause */
/* What the two sides tell each other in VERSION. */
#include "wire/version.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/bytes.h"

/* Objects in objects: more is not sent by anybody who means well. */
#define MAX_DEPTH 8

static const struct uvf_wire_capabilities defaults = {
	.max_msg_fds = 1,
	.max_data_xfer_size = UVF_WIRE_DEFAULT_DATA_XFER_SIZE,
	.max_dma_maps = UVF_WIRE_DEFAULT_DMA_MAPS,
	.page_sizes = UVF_WIRE_DEFAULT_PAGE_SIZES,
	.twin_fd_index = -1,
	.migration_page_size = UVF_WIRE_MIGRATION_PAGE_SIZE,
	.max_bitmap_size = UVF_WIRE_DEFAULT_BITMAP_SIZE,
};

/* A number in [min, max], if it is there. */
static int get_number(struct json_object *object, const char *name, uint64_t min, uint64_t max,
		      uint64_t *value)
{
	struct json_object *member;

	if (!json_object_object_get_ex(object, name, &member))
		return 0;
	if (!json_object_is_type(member, json_type_int) || json_object_get_int64(member) < 0)
		return -EINVAL;
	*value = json_object_get_uint64(member);
	return *value < min || *value > max ? -EINVAL : 0;
}

static int get_bool(struct json_object *object, const char *name, bool *value)
{
	struct json_object *member;

	if (!json_object_object_get_ex(object, name, &member))
		return 0;
	if (!json_object_is_type(member, json_type_boolean))
		return -EINVAL;
	*value = json_object_get_boolean(member);
	return 0;
}

static int get_twin_socket(struct json_object *object, struct uvf_wire_capabilities *capabilities)
{
	struct json_object *twin;
	uint64_t index = UINT64_MAX;

	if (!json_object_object_get_ex(object, "twin_socket", &twin))
		return 0;
	if (!json_object_is_type(twin, json_type_object) ||
	    get_bool(twin, "supported", &capabilities->twin_socket) ||
	    get_number(twin, "fd_index", 0, 252, &index))
		return -EINVAL;
	if (index != UINT64_MAX)
		capabilities->twin_fd_index = (int)index;
	return 0;
}

static int get_migration(struct json_object *object, struct uvf_wire_capabilities *capabilities)
{
	struct json_object *migration;

	if (!json_object_object_get_ex(object, "migration", &migration))
		return 0;
	if (!json_object_is_type(migration, json_type_object) ||
	    get_number(migration, "pgsize", 1, UINT64_MAX, &capabilities->migration_page_size) ||
	    get_number(migration, "max_bitmap_size", 0, UINT64_MAX,
		       &capabilities->max_bitmap_size) ||
	    !uvf_is_power_of_two(capabilities->migration_page_size))
		return -EINVAL;
	capabilities->migration = true;
	return 0;
}

/* What is ours. A number, so that there can be more of it: each is what those below it are. */
static int get_extensions(struct json_object *object, struct uvf_wire_capabilities *capabilities)
{
	struct json_object *extensions;
	uint64_t areas = 0;

	if (!json_object_object_get_ex(object, "uvfio", &extensions))
		return 0;
	if (!json_object_is_type(extensions, json_type_object) ||
	    get_number(extensions, "areas", 0, UINT32_MAX, &areas))
		return -EINVAL;
	capabilities->areas = areas;
	return 0;
}

static int get_all(struct json_object *root, struct uvf_wire_capabilities *capabilities)
{
	uint64_t max_msg_fds = capabilities->max_msg_fds;
	uint64_t max_data_xfer_size = capabilities->max_data_xfer_size;
	struct json_object *object;

	if (!json_object_is_type(root, json_type_object))
		return -EINVAL;
	if (!json_object_object_get_ex(root, "capabilities", &object))
		return 0;
	if (!json_object_is_type(object, json_type_object) ||
	    get_number(object, "max_msg_fds", 0, UINT32_MAX, &max_msg_fds) ||
	    get_number(object, "max_data_xfer_size", 1, UINT32_MAX, &max_data_xfer_size) ||
	    get_number(object, "max_dma_maps", 0, UINT64_MAX, &capabilities->max_dma_maps) ||
	    get_number(object, "pgsizes", 1, UINT64_MAX, &capabilities->page_sizes) ||
	    get_bool(object, "write_multiple", &capabilities->write_multiple))
		return -EINVAL;
	capabilities->max_msg_fds = (uint32_t)max_msg_fds;
	capabilities->max_data_xfer_size = (uint32_t)max_data_xfer_size;
	if (get_migration(object, capabilities) || get_extensions(object, capabilities))
		return -EINVAL;
	return get_twin_socket(object, capabilities);
}

int uvf_wire_capabilities_decode(const void *text, size_t size,
				 struct uvf_wire_capabilities *capabilities)
{
	struct json_tokener *tokener;
	struct json_object *root;
	int ret = -EINVAL;

	*capabilities = defaults;
	if (!size)
		return 0;
	if (size > UVF_WIRE_VERSION_MAX)
		return -E2BIG;
	tokener = json_tokener_new_ex(MAX_DEPTH);
	if (!tokener)
		return -ENOMEM;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, text, (int)size);
	if (root && json_tokener_get_error(tokener) == json_tokener_success)
		ret = get_all(root, capabilities);
	json_object_put(root);
	json_tokener_free(tokener);
	return ret;
}

static struct json_object *twin_object(const struct uvf_wire_capabilities *capabilities)
{
	struct json_object *twin = json_object_new_object();

	json_object_object_add(twin, "supported", json_object_new_boolean(true));
	if (capabilities->twin_fd_index >= 0)
		json_object_object_add(twin, "fd_index",
				       json_object_new_int(capabilities->twin_fd_index));
	return twin;
}

static struct json_object *migration_object(const struct uvf_wire_capabilities *capabilities)
{
	struct json_object *migration = json_object_new_object();

	json_object_object_add(migration, "pgsize",
			       json_object_new_uint64(capabilities->migration_page_size));
	json_object_object_add(migration, "max_bitmap_size",
			       json_object_new_uint64(capabilities->max_bitmap_size));
	return migration;
}

static struct json_object *extensions_object(void)
{
	struct json_object *extensions = json_object_new_object();

	json_object_object_add(extensions, "areas", json_object_new_int(1));
	return extensions;
}

int uvf_wire_capabilities_encode(const struct uvf_wire_capabilities *capabilities, char *text,
				 size_t size)
{
	struct json_object *root = json_object_new_object();
	struct json_object *object = json_object_new_object();
	const char *plain;
	int ret = -ENOMEM;

	if (!root || !object) {
		json_object_put(root);
		json_object_put(object);
		return -ENOMEM;
	}
	json_object_object_add(root, "capabilities", object);
	json_object_object_add(object, "max_msg_fds",
			       json_object_new_uint64(capabilities->max_msg_fds));
	json_object_object_add(object, "max_data_xfer_size",
			       json_object_new_uint64(capabilities->max_data_xfer_size));
	json_object_object_add(object, "max_dma_maps",
			       json_object_new_uint64(capabilities->max_dma_maps));
	json_object_object_add(object, "pgsizes", json_object_new_uint64(capabilities->page_sizes));
	if (capabilities->write_multiple)
		json_object_object_add(object, "write_multiple", json_object_new_boolean(true));
	if (capabilities->twin_socket)
		json_object_object_add(object, "twin_socket", twin_object(capabilities));
	if (capabilities->migration)
		json_object_object_add(object, "migration", migration_object(capabilities));
	if (capabilities->areas)
		json_object_object_add(object, "uvfio", extensions_object());
	plain = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN);
	if (plain) {
		size_t length = strlen(plain) + 1;

		ret = length > size ? -E2BIG : (int)length;
		if (ret > 0)
			memcpy(text, plain, length);
	}
	json_object_put(root);
	return ret;
}
