/*
 * Memory for a program: `take KIB` takes so much, writes to all of it, reads it back and gives it up again.
 *
 * Of an anonymous mapping, page by page: the kernel has to find each page when it is first written to, wherever it
 * takes it from. It is told apart by its number.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_SIZE 4096

int main(int argc, char **argv)
{
	size_t pages = argc == 2 ? strtoul(argv[1], NULL, 10) * 1024 / PAGE_SIZE : 0;
	uint8_t *memory;

	if (pages == 0) {
		fprintf(stderr, "usage: take KIB\n");
		return 2;
	}
	memory = mmap(NULL, pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (size_t page = 0; page < pages; page++)
		*(size_t *)(memory + page * PAGE_SIZE) = ~page;
	for (size_t page = 0; page < pages; page++)
		if (*(size_t *)(memory + page * PAGE_SIZE) != ~page) {
			printf("take: page %zu is not what it was\n", page);
			return 1;
		}
	printf("take: had %zu KiB\n", pages * PAGE_SIZE / 1024);
	return 0;
}
