/* What the loader says of the machine: the command line and the memory map (Xen: arch-x86/hvm/start_info.h). */
#pragma once
#include <stdint.h>

#define HVM_START_MAGIC 0x336ec578
#define HVM_MEMMAP_RAM 1

struct hvm_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	uint32_t memmap_entries, reserved;
};

struct hvm_memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

extern const struct hvm_start_info *start_info;

/*
 * The next word of the command line that begins with `prefix`, which is passed over: `after` is 0, or what the last call
 * returned. The word ends at a space or at the end of the line. 0 when there is none.
 */
const char *command_line_word(const char *prefix, const char *after);

/* Decimal, or hexadecimal after 0x. Moves `*text` behind the number; 0 where there is none. */
uint64_t parse_number(const char **text);

/* A program is this function. It need not return: then the guest quits with 0. */
void program(void);
