/*
 * Executes instructions on the real CPU at CPL 3: reads cases from stdin, writes what became of them to stdout.
 *
 * A case's registers, flags and extended state are put into the frame of a signal, so that the return from its handler
 * loads them all and jumps to the instruction. What follows the instruction are INT3s. The signal of the trap or
 * fault that ends the case carries the state after it in the same form.
 *
 * With the argument "cpu" it prints CPUID leaves and then XCR0 and MXCSR_MASK instead, a
 * line each. The layouts are native.ts's too.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096
#define CODE_BASE 0x10000000ul
#define DATA_BASE 0x20000000ul
#define AREA_SIZE 4096
#define LEGACY_SIZE 512
#define CS_64 0x33
#define CS_32 0x23
#define SS_USER 0x2b
#define GS_BASE 0x100000ul
/* CF PF AF ZF SF TF DF OF AC */
#define SETTABLE_FLAGS 0x40dd5

struct code_case {
	uint64_t registers[16];
	uint32_t flags;
	uint32_t is_32bit;
	uint32_t code_offset; /* in the first code page */
	uint32_t code_length;
	uint32_t protection[3]; /* PROT_ bits: second code page, both data pages */
	uint32_t reserved;
	uint8_t code[32];
	uint8_t area[AREA_SIZE];
	uint8_t data[2 * PAGE];
};

struct outcome {
	uint64_t registers[16];
	uint64_t rip;
	uint64_t cr2;
	uint32_t flags;
	uint32_t vector;
	uint32_t error_code;
	uint32_t signal;
	uint8_t area[AREA_SIZE];
	uint8_t data[2 * PAGE];
};

static const int register_slots[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static struct code_case current;
static struct outcome outcome;
static uint32_t area_size;
static uint64_t enabled;
static sigjmp_buf done;

static inline void allow_misaligned(void)
{
	/* The handler runs with the case's AC flag, and compilers use misaligned accesses. */
	__asm__ volatile("pushf; andl $~0x40000, (%%rsp); popf" ::: "memory", "cc");
}

static void enter(int signal_number, siginfo_t *info, void *context)
{
	ucontext_t *frame = context;
	greg_t *registers = frame->uc_mcontext.gregs;
	uint8_t *area = (uint8_t *)frame->uc_mcontext.fpregs;

	(void)signal_number, (void)info;
	for (int i = 0; i < 16; i++)
		registers[register_slots[i]] = (greg_t)current.registers[i];
	registers[REG_RIP] = (greg_t)(CODE_BASE + current.code_offset);
	registers[REG_EFL] = (registers[REG_EFL] & ~SETTABLE_FLAGS) | (current.flags & SETTABLE_FLAGS);
	uint64_t selectors = (uint64_t)registers[REG_CSGSFS] & 0x0000ffffffff0000ul;
	registers[REG_CSGSFS] = (greg_t)(selectors | (current.is_32bit ? CS_32 : CS_64) | (uint64_t)SS_USER << 48);
	/* Bytes 464 to 511 are the kernel's description of the frame; it adds a word behind it too. */
	memcpy(area, current.area, 464);
	memcpy(area + LEGACY_SIZE, current.area + LEGACY_SIZE, area_size - LEGACY_SIZE);
}

static void leave(int signal_number, siginfo_t *info, void *context)
{
	allow_misaligned();
	ucontext_t *frame = context;
	greg_t *registers = frame->uc_mcontext.gregs;

	(void)info;
	for (int i = 0; i < 16; i++)
		outcome.registers[i] = (uint64_t)registers[register_slots[i]];
	outcome.rip = (uint64_t)registers[REG_RIP];
	outcome.flags = (uint32_t)registers[REG_EFL];
	outcome.vector = (uint32_t)registers[REG_TRAPNO];
	outcome.error_code = (uint32_t)registers[REG_ERR];
	outcome.cr2 = (uint64_t)registers[REG_CR2];
	outcome.signal = (uint32_t)signal_number;
	memcpy(outcome.area, frame->uc_mcontext.fpregs, area_size);
	siglongjmp(done, 1);
}

static void transfer(int is_write, void *bytes, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = is_write ? write(1, (char *)bytes + at, size - at) : read(0, (char *)bytes + at, size - at);
		if (n <= 0)
			exit(n == 0 && at == 0 ? 0 : 2);
		at += (size_t)n;
	}
}

static void protect(unsigned long address, uint32_t protection)
{
	if (mprotect((void *)address, PAGE, (int)protection) != 0)
		exit(3);
}

static void run(void)
{
	uint8_t *code = (uint8_t *)CODE_BASE;
	uint8_t *data = (uint8_t *)DATA_BASE;

	memset(code, 0xcc, 2 * PAGE);
	memcpy(code + current.code_offset, current.code, current.code_length);
	memcpy(data, current.data, 2 * PAGE);
	protect(CODE_BASE + PAGE, current.protection[0]);
	protect(DATA_BASE, current.protection[1]);
	protect(DATA_BASE + PAGE, current.protection[2]);
	memset(&outcome, 0, sizeof outcome);
	/* Ends the runner if the code runs away. */
	alarm(5);
	if (sigsetjmp(done, 0) == 0)
		raise(SIGUSR1);
	protect(CODE_BASE + PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	protect(DATA_BASE, PROT_READ | PROT_WRITE);
	protect(DATA_BASE + PAGE, PROT_READ | PROT_WRITE);
	memcpy(outcome.data, data, 2 * PAGE);
}

static void print_leaf(uint32_t leaf, uint32_t index)
{
	uint32_t a, b, c, d;

	__cpuid_count(leaf, index, a, b, c, d);
	printf("%u %u %u %u %u %u\n", leaf, index, a, b, c, d);
}

static void map(unsigned long address, int protection)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;

	if (mmap((void *)address, 2 * PAGE, protection, flags, -1, 0) == MAP_FAILED)
		exit(4);
}

int main(int argc, char **argv)
{
	static char signal_stack[1 << 16];
	static const int endings[] = { SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	uint32_t low, high, unused;

	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	enabled = (uint64_t)high << 32 | low;
	__cpuid_count(0xd, 0, unused, area_size, unused, unused);
	if (argc > 1 && strcmp(argv[1], "cpu") == 0) {
		print_leaf(0, 0);
		print_leaf(0x80000008, 0);
		for (uint32_t index = 0; index < 63; index++)
			print_leaf(0xd, index);
		static uint8_t area[512] __attribute__((aligned(16)));
		__asm__ volatile("fxsave64 %0" : "=m"(area));
		printf("%lu\n%u\n", (unsigned long)enabled, *(uint32_t *)(area + 28));
		return 0;
	}
	if (area_size > AREA_SIZE)
		return 5;

	map(CODE_BASE, PROT_READ | PROT_WRITE | PROT_EXEC);
	map(DATA_BASE, PROT_READ | PROT_WRITE);
	/* 32-bit code needs data segments, which 64-bit processes have as null selectors. */
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" :: "r"(SS_USER));
	syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE);
	stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof signal_stack };
	sigaltstack(&stack, NULL);
	struct sigaction action = { .sa_sigaction = enter, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigaction(SIGUSR1, &action, NULL);
	action.sa_sigaction = leave;
	action.sa_flags |= SA_NODEFER;
	for (unsigned i = 0; i < sizeof endings / sizeof *endings; i++)
		sigaction(endings[i], &action, NULL);

	for (;;) {
		transfer(0, &current, sizeof current);
		run();
		transfer(1, &outcome, sizeof outcome);
	}
}
