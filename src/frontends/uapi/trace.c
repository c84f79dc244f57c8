/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A line for each call of the program, readable as strace's are. What a structure holds is read
 * when the call has been carried out: what went in, and what came out in its place.
 *
 * Letters of layouts: d a descriptor, x hexadecimal, u decimal, f flags, p a string, - nothing; for
 * calls also a: a descriptor or AT_FDCWD, b: bytes (as many as the result or the next argument
 * says), r: an offset in a device's file, o m M: flags of open() and mmap().
 */
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/stats.h"
#include "frontends/uapi/trace.h"
#include "frontends/uapi/uapi.h"

#define LINE_SIZE 512
#define BYTES_MAX 16
/* Of a string, before and after it is escaped: what follows it has to fit, too. */
#define STRING_MAX 256

struct line {
	char text[LINE_SIZE];
	size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
	size_t room = sizeof(line->text) - line->length;
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line->text + line->length, room, format, args);
	va_end(args);
	if (length > 0)
		line->length += (size_t)length < room ? (size_t)length : room - 1;
}

/* ---- Values ---- */

struct bit {
	uint64_t bit;
	const char *name;
};

static const struct bit open_bits[] = {
	{O_CREAT, "O_CREAT"},	  {O_EXCL, "O_EXCL"},	      {O_TRUNC, "O_TRUNC"},
	{O_APPEND, "O_APPEND"},	  {O_NONBLOCK, "O_NONBLOCK"}, {O_DIRECTORY, "O_DIRECTORY"},
	{O_CLOEXEC, "O_CLOEXEC"}, {O_NOFOLLOW, "O_NOFOLLOW"}, {0, NULL},
};
static const struct bit prot_bits[] = {
	{PROT_READ, "PROT_READ"}, {PROT_WRITE, "PROT_WRITE"}, {PROT_EXEC, "PROT_EXEC"}, {0, NULL}};
static const struct bit map_bits[] = {{MAP_SHARED, "MAP_SHARED"},     {MAP_PRIVATE, "MAP_PRIVATE"},
				      {MAP_FIXED, "MAP_FIXED"},	      {MAP_LOCKED, "MAP_LOCKED"},
				      {MAP_POPULATE, "MAP_POPULATE"}, {0, NULL}};

/* "A|B|0x40". @any: something comes before it. */
static void add_bits(struct line *line, uint64_t value, const struct bit *bits, bool any)
{
	for (; bits->name; bits++) {
		if (!(value & bits->bit))
			continue;
		add(line, "%s%s", any ? "|" : "", bits->name);
		value &= ~bits->bit;
		any = true;
	}
	if (value || !any)
		add(line, "%s%#llx", any ? "|" : "", (unsigned long long)value);
}

static void add_open_flags(struct line *line, uint64_t flags)
{
	static const char *const modes[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"};

	add(line, "%s", modes[flags & O_ACCMODE]);
	flags &= ~(uint64_t)(O_ACCMODE | 0100000); /* O_LARGEFILE says nothing */
	if (flags)
		add_bits(line, flags, open_bits, true);
}

/* As strace does, in ASCII alone: a program's bytes decide neither on lines nor on a terminal. */
static void add_escaped(struct line *line, char byte)
{
	static const char special[] = "\"\\\n\t\r", letters[] = "\"\\ntr";
	const char *at = memchr(special, byte, sizeof(special) - 1);

	if (at)
		add(line, "\\%c", letters[at - special]);
	else if (byte >= ' ' && byte <= '~')
		add(line, "%c", byte);
	else
		add(line, "\\%03o", (unsigned)(uint8_t)byte);
}

static void add_string(struct line *line, struct uapi_call *call, uint64_t address)
{
	char text[STRING_MAX];
	size_t end, i;

	if (uapi_call_read_string(call, address, text, sizeof(text)) < 0) {
		add(line, "%#llx", (unsigned long long)address);
		return;
	}
	add(line, "\"");
	end = line->length + STRING_MAX;
	for (i = 0; text[i] && line->length < end; i++)
		add_escaped(line, text[i]);
	add(line, text[i] ? "\"..." : "\"");
}

static void add_offset(struct line *line, uint64_t offset)
{
	static const char *const names[] = {"BAR0", "BAR1", "BAR2",   "BAR3", "BAR4",
					    "BAR5", "ROM",  "CONFIG", "VGA"};
	uint64_t index = offset >> 40;
	uint64_t inside = offset & ((1ULL << 40) - 1);

	if (index < sizeof(names) / sizeof(names[0]))
		add(line, "%s+%#llx", names[index], (unsigned long long)inside);
	else
		add(line, "%#llx", (unsigned long long)offset);
}

/* A number where it could be a register's, else the first bytes. */
static void add_bytes(struct line *line, struct uapi_call *call, uint64_t address, uint64_t count)
{
	uint8_t bytes[BYTES_MAX];
	size_t size = count < BYTES_MAX ? (size_t)count : BYTES_MAX;
	bool is_number = count == 1 || count == 2 || count == 4 || count == 8;

	if (!count || uapi_call_read(call, address, bytes, size) < 0) {
		add(line, "%#llx", (unsigned long long)address);
		return;
	}
	add(line, is_number ? "[0x" : "[");
	for (size_t i = 0; i < size; i++)
		add(line, "%s%02x", is_number || !i ? "" : " ",
		    bytes[is_number ? size - 1 - i : i]);
	add(line, size < count ? " ...]" : "]");
}

/* ---- An ioctl's argument ---- */

/* @names: "READ,WRITE)": of bit 0 and on. Returns what comes after the bracket. */
static const char *add_named_flags(struct line *line, uint64_t value, const char *names)
{
	bool any = false;

	for (uint64_t bit = 1;; bit <<= 1) {
		size_t length = strcspn(names, ",)");

		if (value & bit) {
			add(line, "%s%.*s", any ? "|" : "", (int)length, names);
			any = true;
			value &= ~bit;
		}
		names += length;
		if (*names++ == ')')
			break;
	}
	if (value || !any)
		add(line, "%s%#llx", any ? "|" : "", (unsigned long long)value);
	return names;
}

static void add_number(struct line *line, char letter, uint64_t value, size_t size)
{
	if (letter == 'd')
		add(line, "%d", (int)value);
	else if (letter == 'u')
		add(line, "%llu", (unsigned long long)value);
	else
		add(line, "%#llx", (unsigned long long)value);
}

static void add_structure(struct line *line, struct uapi_call *call, uint64_t address,
			  const char *layout)
{
	const char *separator = "{";
	uint64_t offset = 0;

	while (*layout) {
		char letter = *layout++;
		size_t size = (size_t)(*layout++ - '0');
		size_t length = strcspn(layout, " (");
		uint64_t value = 0;

		offset += size;
		if (letter != '-') {
			if (uapi_call_read(call, address + offset - size, &value, size) < 0) {
				add(line, "%s%#llx", separator, (unsigned long long)address);
				break;
			}
			add(line, "%s%.*s=", separator, (int)length, layout);
			separator = ", ";
		}
		layout += length;
		if (*layout == '(')
			layout = add_named_flags(line, value, layout + 1);
		else if (letter != '-')
			add_number(line, letter, value, size);
		layout += *layout == ' ';
	}
	add(line, "}");
}

static void add_ioctl(struct line *line, struct uapi_call *call, unsigned kind, const char *layout)
{
	uint64_t argument = call->arguments[2];

	add(line, "ioctl(%d<%s>, ", (int)call->arguments[0], call->file_name);
	if (strcmp(uapi_kind_name(kind), "ioctl") == 0)
		add(line, "%#x", (unsigned)call->arguments[1]);
	else
		add(line, "%s", uapi_kind_name(kind));
	if (*layout)
		add(line, ", ");
	if (layout[0] != '=' && *layout)
		add_structure(line, call, argument, layout);
	else if (*layout && layout[1] == 'p')
		add_string(line, call, argument);
	else if (*layout)
		add_number(line, layout[1], argument, sizeof(argument));
}

/* ---- Other calls ---- */

static bool is_write(const struct uapi_call *call)
{
	return call->number == __NR_write || call->number == __NR_pwrite64;
}

static void add_argument(struct line *line, struct uapi_call *call, char letter, unsigned nth,
			 int64_t result)
{
	uint64_t value = call->arguments[nth];

	switch (letter) {
	case 'a':
		if ((int)value == AT_FDCWD) {
			add(line, "AT_FDCWD");
			break;
		}
		__attribute__((fallthrough));
	case 'd':
		add(line, "%d", (int)value);
		if (letter == 'd' && call->file_name)
			add(line, "<%s>", call->file_name);
		break;
	case 'p':
		add_string(line, call, value);
		break;
	case 'o':
		add_open_flags(line, value);
		break;
	case 'm':
		add_bits(line, value, prot_bits, false);
		break;
	case 'M':
		add_bits(line, value, map_bits, false);
		break;
	case 'r':
		add_offset(line, value);
		break;
	case 'b':
		add_bytes(line, call, value,
			  is_write(call) ? call->arguments[nth + 1]
			  : result > 0	 ? (uint64_t)result
					 : 0);
		break;
	default:
		add_number(line, letter, value, sizeof(value));
	}
}

static void add_call(struct line *line, struct uapi_call *call, unsigned kind, const char *layout,
		     int64_t result)
{
	const char *separator = "";

	add(line, "%s(", uapi_kind_name(kind));
	for (unsigned i = 0; layout[i]; i++) {
		if (layout[i] == '-')
			continue;
		add(line, "%s", separator);
		add_argument(line, call, layout[i], i, result);
		separator = ", ";
	}
}

static void add_result(struct line *line, const struct uapi_call *call, int64_t result)
{
	const char *name = result < 0 ? strerrorname_np((int)-result) : NULL;

	if (result < 0)
		add(line, ") = -1 %s (%s)", name ? name : "", strerror((int)-result));
	else if (call->number == __NR_mmap)
		add(line, ") = %#llx", (unsigned long long)result);
	else
		add(line, ") = %lld", (long long)result);
}

void uapi_trace_call(struct uapi_call *call, int64_t result, uint64_t duration_ns)
{
	const struct uvf_run_config *config = &call->run->config;
	struct line line = {.length = 0};
	const char *layout;
	unsigned kind;
	bool is_ioctl;

	/* What isn't for us would bury what is. */
	if (result == UAPI_CONTINUE)
		return;
	kind = uapi_kind_of_call(call, false);
	layout = uapi_kind_layout(kind, &is_ioctl);
	add(&line, "[%d] ", call->thread);
	if (is_ioctl)
		add_ioctl(&line, call, kind, layout);
	else
		add_call(&line, call, kind, layout, result);
	add_result(&line, call, result);
	add(&line, " <%llu.%06llu>", (unsigned long long)(duration_ns / 1000000000),
	    (unsigned long long)(duration_ns / 1000 % 1000000));
	config->trace(config->trace_opaque, line.text);
}
