/*
 * Starts the CPU with APIC ID 1 in a C function, at CPL 3 like the first one: for two CPUs that use one memory. It has no
 * task state, no interrupts, and no port; an exception there ends the machine by a triple fault.
 */
#pragma once
#include "boot.h"
#include "io.h"
#include "memory.h"
#include <stddef.h>
#include <stdint.h>

/* Where real mode can begin: a page below 1 MiB that the loader leaves alone. Its number is what SIPI says. */
#define SECOND_CPU_PAGE 0x70000
#define SECOND_CPU_STACK_SIZE 16384

#define APIC_SPURIOUS_VECTOR 0xfee000f0ull
#define APIC_ENABLED 0x1ff
#define APIC_COMMAND_LOW 0xfee00300ull
#define APIC_COMMAND_HIGH 0xfee00310ull
#define APIC_INIT 0x4500
#define APIC_STARTUP 0x4600

/* As in start.S of the runtime. */
extern uint64_t page_pointers[];

/* Real mode to CPL 3 in long mode. Copied to SECOND_CPU_PAGE, and addressed there. */
__asm__(".pushsection .rodata\n"
	".global second_cpu_code, second_cpu_data, second_cpu_end\n"
	".balign 16\n"
	"second_cpu_code:\n"
	"	.code16\n"
	"	cli\n"
	"	movw %cs, %ax\n"
	"	movw %ax, %ds\n"
	"	lgdtl second_cpu_gdt_pointer - second_cpu_code\n"
	"	movl %cr0, %eax\n"
	"	orl $1, %eax\n"
	"	movl %eax, %cr0\n"
	"	ljmpl $0x20, $(0x70000 + second_cpu_protected - second_cpu_code)\n"
	"	.code32\n"
	"second_cpu_protected:\n"
	"	movl $0x28, %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %ss\n"
	/* PAE, SSE; paging and long mode as on the first CPU. */
	"	movl $0x620, %eax\n"
	"	movl %eax, %cr4\n"
	"	movl (0x70000 + second_cpu_data - second_cpu_code), %eax\n"
	"	movl %eax, %cr3\n"
	"	movl $0xc0000080, %ecx\n"
	"	movl $0x100, %eax\n"
	"	xorl %edx, %edx\n"
	"	wrmsr\n"
	"	movl $0x80000013, %eax\n"
	"	movl %eax, %cr0\n"
	"	ljmpl $0x08, $(0x70000 + second_cpu_long - second_cpu_code)\n"
	"	.code64\n"
	"second_cpu_long:\n"
	"	movl $(0x70000 + second_cpu_frame - second_cpu_code), %esp\n"
	"	iretq\n"
	"	.balign 8\n"
	"second_cpu_data:\n"
	/* The page map; then what IRETQ takes: C, CPL 3, no flags, the stack. */
	"	.quad 0\n"
	"second_cpu_frame:\n"
	"	.quad 0, 0x1b, 2, 0, 0x13\n"
	/* Those of the first CPU, then code and data of 32 bits. */
	"second_cpu_gdt:\n"
	"	.quad 0, 0x00af9b000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff\n"
	"	.quad 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
	"second_cpu_gdt_pointer:\n"
	"	.word second_cpu_gdt_pointer - second_cpu_gdt - 1\n"
	"	.long 0x70000 + second_cpu_gdt - second_cpu_code\n"
	"second_cpu_end:\n"
	".popsection\n");

extern const char second_cpu_code[], second_cpu_data[], second_cpu_end[];

/* Starts it. `function` must not return. Without a second CPU nothing happens. */
static void start_second_cpu(void (*function)(void))
{
	uint64_t *map = allocate(4096, 4096);
	char *stack = allocate(SECOND_CPU_STACK_SIZE, 16);
	volatile uint64_t *data =
		(volatile uint64_t *)(uintptr_t)(SECOND_CPU_PAGE + (second_cpu_data - second_cpu_code));

	map[0] = (uint64_t)page_pointers | 0x67;
	memcpy((void *)(uintptr_t)SECOND_CPU_PAGE, second_cpu_code, second_cpu_end - second_cpu_code);
	data[0] = (uint64_t)map;
	data[1] = (uint64_t)function;
	/* A function expects its stack as after a call. */
	data[4] = (uint64_t)stack + SECOND_CPU_STACK_SIZE - 8;
	/* KVM drops what a local APIC sends that software has not enabled. */
	mmio_write32(APIC_SPURIOUS_VECTOR, APIC_ENABLED);
	mmio_write32(APIC_COMMAND_HIGH, 1 << 24);
	mmio_write32(APIC_COMMAND_LOW, APIC_INIT);
	mmio_write32(APIC_COMMAND_HIGH, 1 << 24);
	mmio_write32(APIC_COMMAND_LOW, APIC_STARTUP | SECOND_CPU_PAGE >> 12);
}
