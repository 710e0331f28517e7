/*
 * Whether the kernel keeps the vector registers of processes apart: `vectors TURNS`, on one CPU.
 *
 * Two processes fill all vector registers that the CPU lets programs use, as string functions of a C library do, give the CPU
 * up to each other, and look what is left. Each has bytes of its own.
 */
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* CPUID leaf 1, ECX; leaf 7, EBX. */
#define OSXSAVE (1u << 27)
#define AVX (1u << 28)
#define AVX512F (1u << 16)
/* XCR0: the parts of the registers that the kernel has turned on. */
#define XCR0_AVX 0x06
#define XCR0_AVX512 0xe6

struct vectors {
	uint8_t registers[32][64];
	uint16_t masks[8];
};

/* Fill the registers, yield (system call 24), and read them. In the ABI none of them outlives a call. */
void swap_sse(const struct vectors *in, struct vectors *out);
void swap_avx(const struct vectors *in, struct vectors *out);
void swap_avx512(const struct vectors *in, struct vectors *out);

#define EACH(numbers, line) ".irp i," numbers "\n" line "\n.endr\n"
#define EIGHT "0,1,2,3,4,5,6,7"
#define SIXTEEN EIGHT ",8,9,10,11,12,13,14,15"
#define ALL SIXTEEN ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
#define YIELD "mov $24, %eax\nsyscall\n"

__asm__("swap_sse:\n"
	EACH(SIXTEEN, "movdqu 64*\\i(%rdi), %xmm\\i")
	YIELD
	EACH(SIXTEEN, "movdqu %xmm\\i, 64*\\i(%rsi)")
	"ret\n");

__asm__("swap_avx:\n"
	EACH(SIXTEEN, "vmovdqu 64*\\i(%rdi), %ymm\\i")
	YIELD
	EACH(SIXTEEN, "vmovdqu %ymm\\i, 64*\\i(%rsi)")
	"vzeroupper\n"
	"ret\n");

__asm__("swap_avx512:\n"
	EACH(ALL, "vmovdqu64 64*\\i(%rdi), %zmm\\i")
	EACH(EIGHT, "kmovw 64*32+2*\\i(%rdi), %k\\i")
	YIELD
	EACH(ALL, "vmovdqu64 %zmm\\i, 64*\\i(%rsi)")
	EACH(EIGHT, "kmovw %k\\i, 64*32+2*\\i(%rsi)")
	"vzeroupper\n"
	"ret\n");

static const struct width {
	const char *name;
	void (*swap)(const struct vectors *in, struct vectors *out);
} sse = { "SSE", swap_sse }, avx = { "AVX", swap_avx }, avx512 = { "AVX-512", swap_avx512 };

static const struct width *widest(void)
{
	uint32_t eax, ebx, ecx, edx, xcr0;

	__cpuid(1, eax, ebx, ecx, edx);
	if (!(ecx & OSXSAVE) || !(ecx & AVX))
		return &sse;
	__asm__("xgetbv" : "=a"(xcr0), "=d"(edx) : "c"(0));
	__cpuid_count(7, 0, eax, ebx, ecx, edx);
	if ((xcr0 & XCR0_AVX512) == XCR0_AVX512 && (ebx & AVX512F))
		return &avx512;
	return (xcr0 & XCR0_AVX) == XCR0_AVX ? &avx : &sse;
}

/* How often something else was there. */
static int count_losses(const struct width *width, int byte, int turns)
{
	struct vectors in, out;
	int losses = 0;

	memset(&in, byte, sizeof(in));
	/* What is not filled counts as kept. */
	memcpy(&out, &in, sizeof(out));
	for (int turn = 0; turn < turns; turn++) {
		width->swap(&in, &out);
		losses += memcmp(&in, &out, sizeof(in)) != 0;
	}
	return losses;
}

int main(int argc, char **argv)
{
	int turns = argc == 2 ? atoi(argv[1]) : 0;
	const struct width *width = widest();
	int losses, status;
	pid_t child;

	if (turns <= 0) {
		fprintf(stderr, "usage: vectors TURNS\n");
		return 2;
	}
	child = fork();
	if (child < 0) {
		perror("fork");
		return 1;
	}
	losses = count_losses(width, child == 0 ? 0x11 : 0x22, turns);
	if (child == 0)
		_exit(losses != 0);
	waitpid(child, &status, 0);
	printf("vectors: %s registers are %s\n", width->name, losses || status ? "lost" : "kept");
	return losses || status;
}
