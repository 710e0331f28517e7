/*
 * Says that it has booted, and then knocks for ever: a VM that goes on with it knocks with its first instruction.
 */
#include "boot.h"
#include "io.h"

/* As example-vmm's devices have them: the boot marker, and a port where nobody is. */
#define BOOT_TIMER_PORT 0x3f0
#define BOOT_MARKER 123
#define KNOCK_PORT 0x80

void program(void)
{
	out8(BOOT_TIMER_PORT, BOOT_MARKER);
	for (;;)
		out8(KNOCK_PORT, 0);
}
