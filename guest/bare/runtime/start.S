/*
 * From the PVH entry (32 bits, no paging; Xen: docs/misc/pvh.pandoc) to C at CPL 3 in long mode, with the first 4 GiB mapped
 * to themselves, user accessible, and all I/O ports open.
 *
 * CPL 3 is where a software KVM (kvm-pvm) runs code natively; each instruction at CPL 0 costs it over a microsecond. So
 * nothing is computed here: the assembler makes the tables. Interrupts are off and stay off. An exception goes to
 * `fault_report` (runtime.c), at CPL 3 too, and ends the guest.
 */

#define XEN_ELFNOTE_PHYS32_ENTRY 18

/* Where bare.ld puts the section .entry: some tables hold addresses in pieces that no linker makes. */
#define ENTRY_ADDRESS 0x101000
#define TSS_SIZE 0x68
/* A bit for each port, all allowed, and the byte of ones that ends them. */
#define IO_MAP_SIZE (65536 / 8 + 1)
#define TSS_LIMIT (TSS_SIZE + IO_MAP_SIZE - 1)
#define STUBS_OFFSET 0x2080
#define STUB_SIZE 16
#define EXCEPTIONS 32
/* Those with an error code, a bit each. */
#define HAVE_ERROR_CODE 0x60227d00

#define CR0_PG_PE_MP_ET 0x80000013
#define CR4_PAE_OSFXSR_OSXMMEXCPT 0x620
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100

#define KERNEL_CODE 0x08
#define USER_DATA 0x13
#define USER_CODE 0x1b
#define TASK 0x20
/* IOPL 3, interrupts off; bit 1 is always set. */
#define USER_FLAGS 0x3002

/* Present, writable, user, accessed, dirty; the second a page of 2 MiB. */
#define TABLE 0x67
#define LARGE_PAGE 0xe7
#define LARGE_PAGE_SIZE 0x200000
#define DIRECTORIES 4

#define STACK_SIZE 65536
#define FAULT_STACK_SIZE 4096

	.section .note.Xen, "a", @note
	.align 4
	.long 4, 8, XEN_ELFNOTE_PHYS32_ENTRY
	.asciz "Xen"
	.quad pvh_entry

	.section .entry, "awx"
	/* The task state segment: the stack on which exceptions arrive, and the ports. kvm-pvm forgets IOPL. */
	.long 0
	.quad exception_stack_end
	.org TSS_SIZE - 2
	.word TSS_SIZE
	.org TSS_LIMIT
	.byte 0xff

	.org STUBS_OFFSET
	.code64
	.set vector, 0
	.rept EXCEPTIONS
	.org STUBS_OFFSET + STUB_SIZE * vector
	.if !((HAVE_ERROR_CODE >> vector) & 1)
	pushq $0
	.endif
	pushq $vector
	jmp exception
	.set vector, vector + 1
	.endr

exception:
	movq %rsp, %rdi
	movq %cr2, %rsi
	movl $fault_frame, %esp
	iretq

	.code32
	.global pvh_entry
pvh_entry:
	/* EBX is the start info, until C gets it. */
	lgdt gdt_pointer
	lidt idt_pointer
	movl $CR4_PAE_OSFXSR_OSXMMEXCPT, %eax
	movl %eax, %cr4
	movl $page_map, %eax
	movl %eax, %cr3
	movl $MSR_EFER, %ecx
	movl $EFER_LME, %eax
	xorl %edx, %edx
	wrmsr
	movl $CR0_PG_PE_MP_ET, %eax
	movl %eax, %cr0
	ljmpl $KERNEL_CODE, $long_mode

	.code64
long_mode:
	movl $TASK, %eax
	ltr %ax
	movl $user_frame, %esp
	iretq

user_entry:
	movl %ebx, %edi
	call bare_start
	ud2

	/* What IRETQ takes. A function expects its stack as after a call. */
	.align 8
user_frame:
	.quad user_entry, USER_CODE, USER_FLAGS, stack_end, USER_DATA
fault_frame:
	.quad fault_report, USER_CODE, USER_FLAGS, fault_stack_end - 8, USER_DATA

gdt:
	.quad 0
	.quad 0x00af9b000000ffff
	.quad 0x00cff3000000ffff
	.quad 0x00affb000000ffff
	.quad 0x0000890000000000 | (ENTRY_ADDRESS << 16) | TSS_LIMIT
	.quad 0
gdt_end:
idt:
	.set vector, 0
	.rept EXCEPTIONS
	/* An interrupt gate; the address fits its lower half. */
	.word (ENTRY_ADDRESS + STUBS_OFFSET + STUB_SIZE * vector) & 0xffff
	.word KERNEL_CODE, 0x8e00
	.word (ENTRY_ADDRESS + STUBS_OFFSET + STUB_SIZE * vector) >> 16
	.quad 0
	.set vector, vector + 1
	.endr
idt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
idt_pointer:
	.word idt_end - idt - 1
	.long idt

	.data
	.align 4096
page_map:
	.quad page_pointers + TABLE
	.fill 511, 8, 0
	/* runtime.c adds the RAM above 4 GiB. */
	.global page_pointers
page_pointers:
	.set directory, 0
	.rept DIRECTORIES
	.quad page_directories + 4096 * directory + TABLE
	.set directory, directory + 1
	.endr
	.fill 512 - DIRECTORIES, 8, 0
page_directories:
	.set page, 0
	.rept 512 * DIRECTORIES
	.quad page * LARGE_PAGE_SIZE + LARGE_PAGE
	.set page, page + 1
	.endr

	.bss
	.align 16
	.skip STACK_SIZE
stack_end:
	.skip FAULT_STACK_SIZE
fault_stack_end:
	.skip FAULT_STACK_SIZE
exception_stack_end:
