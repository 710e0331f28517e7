/* Says what machine it is on: the smallest program on the runtime, and a check of it. */
#include "boot.h"
#include "console.h"
#include "io.h"
#include "memory.h"
#include "virtio.h"

#define DEVICE_IDS 64

static void say_cpl(void)
{
	uint16_t selector;

	__asm__("mov %%cs, %0" : "=r"(selector));
	put("hello: cpl ");
	put_number(selector & 3);
	put("\n");
}

static void say_memory(void)
{
	const struct hvm_memmap_entry *map = (const struct hvm_memmap_entry *)start_info->memmap_paddr;
	uint64_t *last;

	for (uint32_t i = 0; i < start_info->memmap_entries; i++) {
		if (map[i].type != HVM_MEMMAP_RAM)
			continue;
		last = (uint64_t *)(map[i].addr + map[i].size) - 1;
		*(volatile uint64_t *)last = *last;
		put("hello: ram ");
		put_hex(map[i].addr);
		put(" ");
		put_hex(map[i].size);
		put("\n");
	}
}

static void say_devices(void)
{
	struct virtio_device device;

	for (uint32_t id = 1; id < DEVICE_IDS; id++)
		for (unsigned int number = 0; virtio_find(&device, id, number); number++) {
			put("hello: virtio ");
			put_number(id);
			put(" at ");
			put_hex(device.address);
			put("\n");
		}
}

void program(void)
{
	const char *word = command_line_word("hello=", 0);

	say_cpl();
	say_memory();
	say_devices();
	/* An address that no page table has. */
	if (word && *word == 'f')
		*(volatile char *)(1ull << 46) = 0;
}
