/* SPDX-License-Identifier: BSD-3-Clause */
/* Programs that map regions and access them: what one thread can see. Each function is one. */
#include <errno.h>
#include <immintrin.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "trap_world.h"

/* ---- Mappings ---- */

/* Nothing traps: nobody is traced afterwards. */
static void native(void)
{
	int fd = open_device(0);
	volatile uint32_t *area = map_bar(fd, AREA, 2 * PAGE);
	uint32_t value = 0;

	CHECK(tracer_of_self() == 0);
	area[3] = 0x12345678;
	area[PAGE / 4] = 0x9abcdef0;
	CHECK(pread(fd, &value, 4, (off_t)AREA + 12) == 4);
	CHECK(value == 0x12345678);
	CHECK(pread(fd, &value, 4, (off_t)(AREA + PAGE)) == 4);
	CHECK(value == 0x9abcdef0);
	/* No descriptors are left behind: the next is the lowest. */
	value = (uint32_t)dup(0);
	area = map_bar(fd, SECOND, PAGE);
	CHECK(area[0] == 0);
	close((int)value);
	CHECK((uint32_t)dup(0) == value);
	CHECK(munmap((void *)area, PAGE) == 0);
}

/* Areas in a mapping of everything don't trap. */
static void mixed(void)
{
	int fd = open_device(0);
	uint64_t value = 77, before;

	bar = map_bar(fd, 0, BAR_SIZE);
	CHECK(tracer_of_self() != 0);
	AT(uint64_t, AREA + 8) = 0x1122334455667788;
	AT(uint64_t, SECOND + 16) = 0x99;
	AT(uint64_t, MORE) = 0xaabb;
	AT(uint64_t, BAR_SIZE - 8) = 0xccdd;
	CHECK(pread(fd, &value, 8, (off_t)AREA + 8) == 8 && value == 0x1122334455667788);
	CHECK(pread(fd, &value, 8, (off_t)SECOND + 16) == 8 && value == 0x99);
	CHECK(pread(fd, &value, 8, (off_t)MORE) == 8 && value == 0xaabb);
	CHECK(pread(fd, &value, 8, (off_t)BAR_SIZE - 8) == 8 && value == 0xccdd);
	before = AT(uint64_t, ACCESSES);
	CHECK(AT(uint64_t, COUNTER) == 1 && AT(uint64_t, COUNTER) == 2);
	CHECK(AT(uint64_t, ACCESSES) == before);
	/* A part from the middle of one area to the middle of the next. */
	bar = map_bar(fd, AREA + PAGE, 3 * PAGE) - (AREA + PAGE);
	CHECK(AT(uint64_t, COUNTER) == 3);
	CHECK(AT(uint64_t, SECOND + 16) == 0x99);
	CHECK(AT(uint64_t, AREA + PAGE) == 0);
}

static void placement(void)
{
	const int shared = MAP_SHARED | MAP_POPULATE;
	int fd = open_device(0);
	char *space = mmap(NULL, 2 * BAR_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *at;

	CHECK(space != MAP_FAILED);
	at = mmap(space, BAR_SIZE, PROT_READ | PROT_WRITE, shared | MAP_FIXED, fd, 0);
	CHECK(at == space);
	bar = at;
	CHECK(AT(uint32_t, COUNTER) == 1);
	CHECK(AT(uint32_t, AREA) == 0);
	at = mmap(space + PAGE, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, fd, 0);
	CHECK(at == MAP_FAILED && errno == EEXIST);
	at = mmap(space, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, fd,
		  (off_t)AREA);
	CHECK(at == MAP_FAILED && errno == EEXIST);
	at = mmap(space + BAR_SIZE, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)AREA);
	CHECK(at == space + BAR_SIZE);
	at = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(at == MAP_FAILED && errno == EINVAL);
	at = mmap(NULL, 2 * BAR_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(at == MAP_FAILED && errno == EINVAL);
	/* Where the kernel refuses, nothing is left. */
	at = mmap((void *)0x1000001, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
	CHECK(at == MAP_FAILED && errno == EINVAL);
}

/* ---- Instructions ---- */

#define WIDTH(type)                                                                       \
	do {                                                                              \
		AT(type, 64) = (type)0x8182838485868788;                                  \
		CHECK(AT(uint64_t, LAST_SIZE) == sizeof(type));                           \
		CHECK(AT(uint64_t, LAST_OFFSET) == 64);                                   \
		CHECK(AT(type, 64) == (type)0x8182838485868788);                          \
		AT(type, 64) += 3;                                                        \
		CHECK(AT(type, 64) == (type)0x818283848586878b);                          \
		AT(type, 64) |= 4;                                                        \
		AT(type, 64) <<= 1;                                                       \
		AT(type, 64)--;                                                           \
		CHECK(AT(type, 64) == (type)((type)((type)0x818283848586878f << 1) - 1)); \
		CHECK(__atomic_exchange_n(&AT(type, 64), 7, __ATOMIC_SEQ_CST) ==          \
		      (type)((type)((type)0x818283848586878f << 1) - 1));                 \
		CHECK(__atomic_fetch_add(&AT(type, 64), 5, __ATOMIC_SEQ_CST) == 7);       \
		CHECK(__sync_bool_compare_and_swap(&AT(type, 64), 12, 13));               \
		CHECK(!__sync_bool_compare_and_swap(&AT(type, 64), 12, 14));              \
		CHECK(AT(type, 64) == 13);                                                \
	} while (0)

static void widths(void)
{
	uint64_t before, twice;

	map_all();
	WIDTH(uint8_t);
	WIDTH(uint16_t);
	WIDTH(uint32_t);
	WIDTH(uint64_t);
	CHECK((AT(int8_t, 64) = -5) == -5 && (int64_t)AT(int8_t, 64) == -5);
	/* What isn't aligned comes in pieces that are. */
	before = AT(uint64_t, ACCESSES);
	AT(uint64_t, 81) = 0x0102030405060708;
	CHECK(AT(uint64_t, ACCESSES) == before + 4);
	CHECK(AT(uint64_t, 81) == 0x0102030405060708);
	/* Half of it is in an area. */
	AT(uint64_t, AREA - 4) = 0x1112131415161718;
	CHECK(AT(uint32_t, AREA - 4) == 0x15161718 && AT(uint32_t, AREA) == 0x11121314);
	twice = AT(uint64_t, AREA - 4);
	CHECK(twice == 0x1112131415161718);
}

static void copies(void)
{
	uint8_t here[1024], back[1024];
	void *to, *from;
	size_t count = sizeof(here);

	map_all();
	to = (void *)(bar + 128);
	for (size_t i = 0; i < sizeof(here); i++)
		here[i] = (uint8_t)(i * 7);
	from = here;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	CHECK(count == 0 && to == bar + 128 + sizeof(here));
	memset(back, 0, sizeof(back));
	/* Backwards, in eights. */
	from = (void *)(bar + 128 + sizeof(here) - 8);
	to = back + sizeof(back) - 8;
	count = sizeof(here) / 8;
	__asm__ volatile("std\nrep movsq\ncld" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	CHECK(count == 0 && memcmp(here, back, sizeof(here)) == 0);
	/* From registers into an area and out of it again. */
	from = (void *)(bar + 128);
	to = (void *)(bar + AREA - 256);
	count = 512 / 4;
	__asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	CHECK(memcmp((void *)(bar + AREA), here + 256, 256) == 0);
	/* Whatever the C library makes of it. */
	memset(back, 0, sizeof(back));
	memcpy(back, (void *)(bar + 128), sizeof(back));
	CHECK(memcmp(here, back, sizeof(here)) == 0);
	memset((void *)(bar + 128), 0x5a, 300);
	CHECK(AT(uint8_t, 128) == 0x5a && AT(uint8_t, 427) == 0x5a &&
	      AT(uint8_t, 428) == here[300]);
}

__attribute__((target("avx"))) static void avx(void)
{
	__m256i all = _mm256_set1_epi32(0x31415926), read;

	_mm256_storeu_si256((__m256i *)(bar + 257), all);
	read = _mm256_loadu_si256((const __m256i *)(bar + 257));
	CHECK(memcmp(&all, &read, sizeof(all)) == 0);
}

__attribute__((target("avx512f"))) static void avx512(void)
{
	__m512i all = _mm512_set1_epi32(0x27182818), read;

	_mm512_storeu_si512((void *)(bar + 320), all);
	read = _mm512_maskz_loadu_epi32(0x5555, (void *)(bar + 320));
	CHECK(_mm512_cmpeq_epi32_mask(all, read) == 0x5555);
}

static void vectors(void)
{
	__m128i all, read;

	map_all();
	all = _mm_set1_epi32(0x16180339);
	_mm_stream_si128((__m128i *)(bar + 256), all);
	CHECK(AT(uint64_t, LAST_SIZE) == 8 && AT(uint64_t, LAST_OFFSET) == 264);
	read = _mm_load_si128((const __m128i *)(bar + 256));
	CHECK(memcmp(&all, &read, sizeof(all)) == 0);
	_mm_stream_si32((int *)(bar + 256), 42);
	CHECK(AT(uint32_t, 256) == 42);
	if (__builtin_cpu_supports("avx"))
		avx();
	if (__builtin_cpu_supports("avx512f"))
		avx512();
}

/* ---- Signals ---- */

static sigjmp_buf fault_jump;
static volatile siginfo_t fault_info;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	memcpy((void *)&fault_info, info, sizeof(*info));
	siglongjmp(fault_jump, 1);
}

static void catch_faults(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

	CHECK(sigaction(SIGBUS, &action, NULL) == 0);
	CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

#define FAULTS(statement)                                \
	({                                               \
		bool faulted = sigsetjmp(fault_jump, 1); \
		if (!faulted) {                          \
			statement;                       \
		}                                        \
		faulted;                                 \
	})

static void remapped(void)
{
	int fd = open_device(0);
	volatile uint8_t *other;

	bar = map_bar(fd, 0, BAR_SIZE);
	catch_faults();
	other = mmap(NULL, 2 * BAR_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(other != MAP_FAILED);
	/* A page of registers is moved. */
	CHECK(AT(uint64_t, COUNTER) == 1);
	CHECK(mremap((void *)(bar + CONTROL), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     other + PAGE) == other + PAGE);
	CHECK(*(volatile uint64_t *)(other + PAGE + COUNTER - CONTROL) == 2);
	CHECK(FAULTS(AT(uint64_t, COUNTER)));
	CHECK(fault_info.si_signo == SIGSEGV && fault_info.si_addr == bar + COUNTER);
	/* Only to be read. */
	CHECK(mprotect((void *)bar, PAGE, PROT_READ) == 0);
	CHECK(AT(uint32_t, 0) == 0);
	CHECK(FAULTS(AT(uint32_t, 0) = 1));
	CHECK(fault_info.si_signo == SIGSEGV && fault_info.si_code == SEGV_ACCERR);
	/* An instruction that reads a register, and writes where nothing is. */
	CHECK(FAULTS(__asm__ volatile("movsl" : : "S"(bar), "D"(bar + CONTROL) : "memory")));
	CHECK(fault_info.si_signo == SIGSEGV && fault_info.si_addr == bar + CONTROL);
	CHECK(FAULTS(__asm__ volatile("movsl" : : "S"(bar + MORE), "D"(bar) : "memory")));
	CHECK(fault_info.si_signo == SIGSEGV && fault_info.si_addr == bar);
	CHECK(mprotect((void *)bar, PAGE, PROT_READ | PROT_WRITE) == 0);
	AT(uint32_t, 0) = 1;
	CHECK(munmap((void *)bar, PAGE) == 0);
	CHECK(FAULTS(AT(uint32_t, 0)));
	CHECK(AT(uint32_t, MORE) == 0);
}

/* A SIGBUS that isn't ours, and an instruction that isn't known. */
static void bus_errors(void)
{
	int file = memfd_create("empty", MFD_CLOEXEC);
	volatile uint8_t *empty = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);

	map_all();
	catch_faults();
	CHECK(empty != MAP_FAILED);
	CHECK(FAULTS(*empty));
	CHECK(fault_info.si_signo == SIGBUS && fault_info.si_code == BUS_ADRERR &&
	      fault_info.si_addr == empty);
	CHECK(FAULTS(__asm__ volatile("fildl %0\nfstp %%st(0)" : : "m"(AT(uint32_t, 16)))));
	CHECK(fault_info.si_signo == SIGBUS && fault_info.si_addr == bar + 16);
	CHECK(AT(uint64_t, COUNTER) == 1);
	CHECK(FAULTS(raise(SIGBUS)));
	CHECK(fault_info.si_code == SI_TKILL);
}

static volatile sig_atomic_t ticks;

static void on_tick(int signal)
{
	ticks++;
}

static void timers(void)
{
	const struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	int fd = open_device(0);
	uint64_t i = 0;

	CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
	bar = map_bar(fd, 0, BAR_SIZE);
	while (ticks < 500) {
		CHECK(AT(uint64_t, COUNTER) == ++i);
		if (i % 16 == 0) {
			volatile void *again = map_bar(fd, 0, BAR_SIZE);
			CHECK(munmap((void *)again, BAR_SIZE) == 0);
			again = map_bar(fd, AREA, PAGE);
			CHECK(munmap((void *)again, PAGE) == 0);
		}
	}
	CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
}

const struct trap_case trap_access_cases[] = {
	TRAP_CASE(native),    TRAP_CASE(mixed),
	TRAP_CASE(placement), TRAP_CASE(widths),
	TRAP_CASE(copies),    TRAP_CASE(vectors),
	TRAP_CASE(remapped),  TRAP_CASE(bus_errors),
	TRAP_CASE(timers),    {0},
};
