/* Text on the first serial port, and the end of the guest. */
#pragma once
#include <stdint.h>

void put(const char *text);
void put_number(uint64_t number);
/* With 0x, without leading zeros. */
void put_hex(uint64_t number);
/* A whole line. */
void say(const char *text);

/* Ends the virtual machine by the exit port (QEMU's isa-debug-exit); `status` is up to 127. */
void quit(uint8_t status) __attribute__((noreturn));
/* Says why, and quits with 1. */
void die(const char *why) __attribute__((noreturn));
