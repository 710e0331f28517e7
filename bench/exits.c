/*
 * The floor for exits.mjs: a KVM_RUN loop in C over the same guest, which writes to an I/O port for ever, in long
 * mode at CPL 3. Prints nanoseconds per exit.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define CODE 0x10000
#define PML4 0x1000

static void check(long result, const char *what)
{
	if (result >= 0)
		return;
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	long exits = argc > 1 ? atol(argv[1]) : 20000;
	/* 1: out %al, $0x80; jmp 1b */
	static const uint8_t code[] = { 0xe6, 0x80, 0xeb, 0xfc };
	size_t size = 2 << 20;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	check(kvm, "/dev/kvm");
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	check(vm, "KVM_CREATE_VM");
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *table = (uint64_t *)(memory + PML4);
	table[0] = (PML4 + 0x1000) | 7;
	table[512] = (PML4 + 0x2000) | 7;
	table[1024] = 0x80 | 7;
	memcpy(memory + CODE, code, sizeof code);
	struct kvm_userspace_memory_region region = { 0, 0, 0, size, (uintptr_t)memory };
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	check(vcpu, "KVM_CREATE_VCPU");
	int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	struct kvm_sregs sregs;
	check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	struct kvm_segment segment = {
		.limit = 0xffffffff, .present = 1, .dpl = 3, .s = 1, .g = 1,
	};
	sregs.cs = segment;
	sregs.cs.selector = 0x33, sregs.cs.type = 11, sregs.cs.l = 1;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment;
	sregs.ss.selector = sregs.ds.selector = sregs.es.selector = 0x2b;
	sregs.ss.type = sregs.ds.type = sregs.es.type = sregs.fs.type = sregs.gs.type = 3;
	sregs.ss.db = sregs.ds.db = sregs.es.db = 1;
	sregs.cr0 = 0x80000033, sregs.cr3 = PML4, sregs.cr4 = 0x20, sregs.efer = 0x501;
	check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	/* IOPL 3: CPL 3 may use I/O ports. */
	struct kvm_regs regs = { .rip = CODE, .rflags = 0x3002 };
	check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");

	double start = 0;
	for (long i = -1000; i < exits; i++) {
		if (i == 0)
			start = now();
		check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
		if (run->exit_reason != KVM_EXIT_IO) {
			fprintf(stderr, "exit reason %u\n", run->exit_reason);
			return 1;
		}
	}
	printf("%.0f\n", (now() - start) / exits);
}
