/*
 * RAM. All of it is mapped to itself, with CPL 3 allowed: guest-physical addresses are pointers. Where there is no RAM, below
 * 4 GiB, an access goes to the VMM.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* GCC calls them on its own account. */
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);

/* Zeroed RAM that nothing else uses, for ever; `align` is a power of two. Dies where there is none left. */
void *allocate(size_t size, size_t align);
