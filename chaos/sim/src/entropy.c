/*
 * The operating system's entropy, replaced for the simulation's process by numbers that follow from its seed.
 *
 * Hash maps, tokio's choice of branches and wakers, and every random generator that is seeded from outside take what
 * getrandom(2) gives. With this definition in front of the C library's, two runs of one seed take the same: whatever
 * goes around runtime::Env is still repeatable. A run has one thread, so nothing here is locked.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

static uint64_t state;
static int begun;

static uint64_t next_number(void) {
    if (!begun) {
        const char *seed = getenv("WAYFARER_SIM_SEED");
        state = seed ? strtoull(seed, NULL, 10) : 0;
        begun = 1;
    }
    uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
    (void)flags;
    unsigned char *bytes = buffer;
    for (size_t at = 0; at < length; at++) {
        bytes[at] = (unsigned char)(next_number() >> 56);
    }
    return (ssize_t)length;
}

int getentropy(void *buffer, size_t length) {
    getrandom(buffer, length, 0);
    return 0;
}
