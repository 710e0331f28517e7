/* The runtime's code: see the headers beside it. */
#include "boot.h"
#include "console.h"
#include "io.h"
#include "memory.h"

#define SERIAL_PORT 0x3f8
#define SERIAL_STATUS_PORT (SERIAL_PORT + 5)
#define SERIAL_CAN_TRANSMIT 0x20
#define EXIT_PORT 0xf4

#define GIB 0x40000000ull
#define PAGE_SIZE 4096ull
#define LARGE_PAGE_SIZE 0x200000ull
#define TABLE_ENTRIES 512
/* As in start.S. */
#define TABLE 0x67
#define LARGE_PAGE 0xe7

/* Of start.S and bare.ld. */
extern uint64_t page_pointers[TABLE_ENTRIES];
extern char image_end[];

const struct hvm_start_info *start_info;
static uint64_t free_start, free_end;

/* --- console.h --- */

static void put_character(char character)
{
	while (!(in8(SERIAL_STATUS_PORT) & SERIAL_CAN_TRANSMIT))
		cpu_relax();
	out8(SERIAL_PORT, character);
}

void put(const char *text)
{
	while (*text)
		put_character(*text++);
}

static void put_based(uint64_t number, unsigned int base)
{
	char digits[21];
	int i = sizeof(digits) - 1;

	digits[i] = 0;
	do {
		digits[--i] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	put(digits + i);
}

void put_number(uint64_t number)
{
	put_based(number, 10);
}

void put_hex(uint64_t number)
{
	put("0x");
	put_based(number, 16);
}

void say(const char *text)
{
	put(text);
	put("\n");
}

void quit(uint8_t status)
{
	out8(EXIT_PORT, status);
	for (;;)
		cpu_relax();
}

void die(const char *why)
{
	put("died: ");
	say(why);
	quit(1);
}

/* --- memory.h --- */

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t size)
{
	char *target = to;
	const char *source = from;

	if (target <= source || target >= source + size)
		return memcpy(to, from, size);
	while (size--)
		((volatile char *)target)[size] = source[size];
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const uint8_t *left = a, *right = b;

	for (; size; size--, left++, right++)
		if (*left != *right)
			return *left - *right;
	return 0;
}

void *allocate(size_t size, size_t align)
{
	uint64_t at = (free_start + align - 1) & -align;

	if (size > free_end || at > free_end - size)
		die("out of memory");
	free_start = at + size;
	return memset((void *)at, 0, size);
}

/* --- boot.h --- */

const char *command_line_word(const char *prefix, const char *after)
{
	const char *at = after ? after : (const char *)start_info->cmdline_paddr;
	int is_start = !after;

	if (!at)
		return 0;
	for (; *at; is_start = *at++ == ' ') {
		const char *word = at, *expected = prefix;

		while (*expected && *word == *expected) {
			word++;
			expected++;
		}
		if (is_start && !*expected)
			return word;
	}
	return 0;
}

static int digit_value(char character)
{
	if (character >= '0' && character <= '9')
		return character - '0';
	if (character >= 'a' && character <= 'f')
		return character - 'a' + 10;
	return 16;
}

uint64_t parse_number(const char **text)
{
	const char *at = *text;
	int base = at[0] == '0' && at[1] == 'x' ? 16 : 10;
	uint64_t number = 0;

	if (base == 16)
		at += 2;
	for (; digit_value(*at) < base; at++)
		number = number * base + digit_value(*at);
	*text = at;
	return number;
}

static const struct hvm_memmap_entry *memory_map(void)
{
	return (const struct hvm_memmap_entry *)start_info->memmap_paddr;
}

/* The rest of the RAM that the image is in. */
static void find_free_memory(void)
{
	const struct hvm_memmap_entry *map = memory_map();
	uint64_t image = (uint64_t)image_end;

	for (uint32_t i = 0; i < start_info->memmap_entries; i++)
		if (map[i].type == HVM_MEMMAP_RAM && map[i].addr <= image && map[i].addr + map[i].size > image) {
			free_start = image;
			free_end = map[i].addr + map[i].size;
		}
}

/* A GiB is mapped where any of it is RAM. */
static void map_memory_above_4gib(void)
{
	const struct hvm_memmap_entry *map = memory_map();

	for (uint32_t i = 0; i < start_info->memmap_entries; i++) {
		uint64_t end = map[i].addr + map[i].size;

		if (map[i].type != HVM_MEMMAP_RAM)
			continue;
		for (uint64_t gib = map[i].addr / GIB; gib * GIB < end && gib < TABLE_ENTRIES; gib++) {
			uint64_t *directory;

			if (page_pointers[gib])
				continue;
			directory = allocate(PAGE_SIZE, PAGE_SIZE);
			for (int page = 0; page < TABLE_ENTRIES; page++)
				directory[page] = (gib * GIB + page * LARGE_PAGE_SIZE) | LARGE_PAGE;
			page_pointers[gib] = (uint64_t)directory | TABLE;
		}
	}
}

/* --- Called by start.S --- */

void bare_start(const struct hvm_start_info *info)
{
	start_info = info;
	if (info->magic != HVM_START_MAGIC || info->version < 1)
		die("no PVH start info with a memory map");
	find_free_memory();
	map_memory_above_4gib();
	program();
	quit(0);
}

void fault_report(const uint64_t *frame, uint64_t fault_address)
{
	put("died: exception ");
	put_number(frame[0]);
	put(", error ");
	put_hex(frame[1]);
	put(", at ");
	put_hex(frame[2]);
	put(", CR2 ");
	put_hex(fault_address);
	put("\n");
	quit(1);
}
