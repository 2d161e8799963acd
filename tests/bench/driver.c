/* The MTA's side of the milter protocol (version 6) as a load driver: one thread a connection, every answer checked.
 *
 *   driver ADDRESS MESSAGE RECIPIENTS EXPECT [name=value ...]      prints one JSON object
 *
 * ADDRESS     unix:PATH or inet:PORT@HOST
 * MESSAGE     a file with CRLF line ends; @RCPT@ in its header stands for the recipients
 * RECIPIENTS  a file; each line holds the recipients of one message, and the lines are used in turn
 * EXPECT      smime, openpgp or encrypted (a new body without the canary, at least as long as the old one; for the
 *             first two also the new Content-Type), unchanged (no edit), tempfail, any
 *
 * connections=1 messages=1 (in all) or seconds=S; rate=R starts R messages a second, or fewer where no connection
 * is free; pause_ms=P between the
 * last RCPT and DATA; warm=W messages a connection before the clock runs; per_connection=K messages, then a new one
 * (0: all); go=1 writes "connected" before the warm-up and "ready" after it, and waits for a line each time; canary=TEXT stands in the message.
 *
 * As Postfix does, SMFIP_NR_*, SMFIP_NO*, SMFIP_SKIP and SMFIP_HDR_LEADSPC are honoured, all that is not answered is
 * sent together with what is, each message is followed by ABORT, each connection by QUIT.  A wrong answer is counted
 * and explained; a broken or silent connection ends the run with exit code 1.
 */
#define _GNU_SOURCE
#include "wire.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

enum expect { SMIME, OPENPGP, ENCRYPTED, UNCHANGED, TEMPFAIL, ANY };
static const char *EXPECTATIONS[] = {"smime", "openpgp", "encrypted", "unchanged", "tempfail", "any", NULL};

static struct {
    const char *address, *canary;
    enum expect expect;
    int connections, warm, per_connection, go;
    long messages;
    double seconds, rate, pause_ms;
} opt = {.canary = "", .connections = 1, .messages = 1};

static struct { const char *name, *value; size_t name_size, value_size; int listed; } fields[64];
static int field_count;
static const char *body;
static size_t body_size;
static char **recipients;
static long line_count;

static atomic_long next_message, next_line;
static pthread_barrier_t gate; /* of all threads, main included */
static double began;

/* --- one message */

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void wrong(struct connection *c, const char *format, ...) {
    va_list words;
    va_start(words, format);
    if (!c->wrong++) vsnprintf(c->why, sizeof c->why, format, words);
    va_end(words);
    for (char *p = c->why; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ') *p = '\'';
}

static char envelope(struct connection *c, char *line, char *listed, size_t room) {
    char verdict = STEP(c, 'M', "<sender@s.test>", 16, MAIL_MACROS), data[400], macros[400];
    char *rest = line, *address;
    size_t listed_size = 0;
    while (verdict == 'c' && (address = strsep(&rest, " "))) {
        if (!*address) continue;
        int data_size = snprintf(data, sizeof data, "<%s>", address) + 1;
        int macros_size = snprintf(macros, sizeof macros, "R{rcpt_addr}%c%s%c{rcpt_mailer}%csmtp", 0, address, 0, 0) + 1;
        listed_size += snprintf(listed + listed_size, room - listed_size, "%s%s", listed_size ? ",\n " : "", address);
        verdict = step(c, 'R', data, data_size, macros, macros_size);
    }
    if (verdict == 'c' && opt.pause_ms > 0) {
        flush(c);
        usleep(opt.pause_ms * 1000);
    }
    if (verdict == 'c') verdict = STEP(c, 'T', "", 0, "Ti\0004ABCDEF\0");
    return verdict;
}

static char header(struct connection *c, const char *listed) {
    char verdict = 'c';
    for (int i = 0; i < field_count && verdict == 'c'; i++) {
        const char *value = fields[i].listed ? listed : fields[i].value;
        size_t value_size = fields[i].listed ? strlen(listed) : fields[i].value_size;
        size_t space = c->steps & LEADING_SPACE ? 1 : 0;
        char *data = malloc(fields[i].name_size + value_size + 4);
        char *end = mempcpy(data, fields[i].name, fields[i].name_size);
        *end++ = 0;
        if (space) *end++ = ' ';
        end = mempcpy(end, value, value_size);
        *end++ = 0;
        verdict = step(c, 'L', data, end - data, NULL, 0);
        free(data);
    }
    return verdict == 'c' ? STEP(c, 'N', "", 0, "Ni\0004ABCDEF\0") : verdict;
}

struct seen { uint64_t replaced; int edits, smime, openpgp, canary; char text[120]; };

/* Reads the edits up to the verdict. */
static char verdict_of(struct connection *c, struct seen *seen) {
    const char *data;
    size_t size;
    char tail[256] = "";
    size_t tail_size = 0, canary_size = strlen(opt.canary);
    for (;;) {
        char command = answer(c, &data, &size);
        if (command == 'p') continue;
        if (command == 'y') snprintf(seen->text, sizeof seen->text, "%.*s", (int)size, data);
        if (command == 'y') return *data == '4' ? 't' : 'r';
        if (strchr("acdrt", command)) return command;
        seen->edits++;
        /* A field added (h), inserted (i) or changed (m), the latter two with an index before the name. */
        size_t index = command == 'h' ? 0 : 4;
        if (strchr("him", command) && size > index + 13 && !strncasecmp(data + index, "Content-Type", 13)) {
            seen->smime |= strcasestr(data + index + 13, "application/pkcs7-mime") != NULL;
            seen->openpgp |= strcasestr(data + index + 13, "multipart/encrypted") != NULL;
        }
        if (command != 'b') continue;
        seen->replaced += size;
        if (!canary_size) continue;
        /* What ends in this block, then what stands in it whole; its end is kept for the next. */
        size_t keep = canary_size - 1, lead = size < keep ? size : keep;
        memcpy(tail + tail_size, data, lead);
        tail_size += lead;
        seen->canary |= memmem(tail, tail_size, opt.canary, canary_size) != NULL;
        seen->canary |= memmem(data, size, opt.canary, canary_size) != NULL;
        if (size >= keep) {
            memcpy(tail, data + size - keep, tail_size = keep);
        } else if (tail_size > keep) {
            memmove(tail, tail + tail_size - keep, keep);
            tail_size = keep;
        }
    }
}

static void check(struct connection *c, char verdict, const struct seen *seen) {
    int accepted = verdict == 'a' || verdict == 'c';
    if (opt.expect == ANY) return;
    if (opt.expect == TEMPFAIL) {
        if (verdict != 't') wrong(c, "verdict %c instead of a temporary failure", verdict);
    } else if (!accepted) {
        wrong(c, "verdict %c %s", verdict, seen->text);
    } else if (opt.expect == UNCHANGED) {
        if (seen->edits) wrong(c, "%d edits where none was expected", seen->edits);
    } else if (!seen->replaced) {
        wrong(c, "the body was not replaced");
    } else if (seen->canary) {
        wrong(c, "the new body holds the plaintext");
    } else if (seen->replaced < body_size) {
        wrong(c, "the new body has %lu octets, the old one %zu", (unsigned long)seen->replaced, body_size);
    } else if ((opt.expect == SMIME && !seen->smime) || (opt.expect == OPENPGP && !seen->openpgp)) {
        wrong(c, "the new Content-Type is not that of %s", EXPECTATIONS[opt.expect]);
    }
}

static void message(struct connection *c, int counted) {
    char *line = strdup(recipients[next_line++ % line_count]), *listed = malloc(4 * strlen(line) + 8);
    struct seen seen = {0};
    double whole = now(), last = whole;
    char verdict = envelope(c, line, listed, 4 * strlen(line) + 8);
    if (verdict == 'c') verdict = header(c, listed);
    for (size_t at = 0; at < body_size && verdict == 'c'; at += CHUNK) {
        size_t size = body_size - at < CHUNK ? body_size - at : CHUNK;
        if (at + size == body_size) {
            flush(c);
            last = now();
        }
        verdict = step(c, 'B', body + at, size, NULL, 0);
    }
    if (verdict == 'c' || verdict == 's') {
        static const char macros[] = "Ei\0004ABCDEF\0";
        packet(c, 'D', macros, sizeof macros - 1);
        packet(c, 'E', NULL, 0);
        verdict = verdict_of(c, &seen);
    } else if (verdict == 'y') {
        verdict = *c->reply == '4' ? 't' : 'r';
        snprintf(seen.text, sizeof seen.text, "before the end: %.*s", (int)c->reply_size, c->reply);
    }
    double end = now();
    check(c, verdict, &seen);
    packet(c, 'A', NULL, 0);
    free(line);
    free(listed);
    c->replaced += seen.replaced;
    if (!counted) return;
    if (c->count == c->room) {
        c->room = c->room ? 2 * c->room : 1024;
        c->end_ms = realloc(c->end_ms, c->room * sizeof(double));
        c->whole_ms = realloc(c->whole_ms, c->room * sizeof(double));
    }
    c->end_ms[c->count] = (end - last) * 1000;
    c->whole_ms[c->count++] = (end - whole) * 1000;
}

static void *run(void *argument) {
    struct connection *c = argument;
    greet(c, opt.address);
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    for (int i = 0; i < opt.warm; i++) message(c, 0);
    flush(c);
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    for (long done = 1;; done++) {
        long number = next_message++;
        if (opt.seconds ? now() - began >= opt.seconds : number >= opt.messages) break;
        if (opt.rate > 0) {
            double wait = began + number / opt.rate - now();
            if (opt.seconds && number / opt.rate >= opt.seconds) break;
            if (wait < -0.1) continue; /* all connections were busy: what could not be sent is not sent in a burst */
            if (wait > 0) usleep(wait * 1e6);
        }
        message(c, 1);
        if (opt.per_connection && done % opt.per_connection == 0) {
            leave(c);
            greet(c, opt.address);
        }
    }
    leave(c);
    return NULL;
}

/* --- input and output */

static const char *map(const char *path, size_t *size) {
    struct stat status;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &status) || status.st_size == 0) fail("%s: cannot be read, or empty", path);
    *size = status.st_size;
    const char *start = mmap(NULL, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (start == MAP_FAILED) fail("%s: %m", path);
    return start;
}

/* Header fields as an MTA keeps them: the value without the first space, folded with LF. */
static void read_message(const char *path) {
    size_t size;
    const char *at = map(path, &size), *stop = at + size, *end = memmem(at, size, "\r\n\r\n", 4);
    if (!end) fail("%s: no empty line", path);
    body = end + 4;
    body_size = stop - body;
    while (at < end + 2 && field_count < 64) {
        const char *next = at;
        do next = (const char *)memmem(next, stop - next, "\r\n", 2) + 2;
        while (*next == ' ' || *next == '\t');
        const char *colon = memchr(at, ':', next - at);
        char *value = strndup(colon + 2, next - 2 - (colon + 2)), *to = value;
        for (char *from = value; *from; from++)
            if (*from != '\r') *to++ = *from;
        *to = 0;
        fields[field_count].name = at;
        fields[field_count].name_size = colon - at;
        fields[field_count].value = value;
        fields[field_count].value_size = to - value;
        fields[field_count++].listed = !strcmp(value, "@RCPT@");
        at = next;
    }
}

static void read_recipients(const char *path) {
    size_t size;
    const char *octets = map(path, &size);
    char *text = strndup(octets, size), *line;
    while ((line = strsep(&text, "\n"))) {
        if (!*line) continue;
        recipients = realloc(recipients, (line_count + 1) * sizeof *recipients);
        recipients[line_count++] = line;
    }
    if (!line_count) fail("%s: no recipient", path);
}

static int by_size(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void print_times(const char *name, double *all, long count) {
    qsort(all, count, sizeof *all, by_size);
    printf("\"%s\": {\"p50\": %.4f, \"p95\": %.4f, \"max\": %.4f}, ", name, count ? all[count / 2] : 0.0,
           count ? all[(long)(count * 0.95)] : 0.0, count ? all[count - 1] : 0.0);
}

static void report(struct connection *all, double seconds, double cpu_s) {
    long count = 0, bad = 0, at = 0;
    uint64_t replaced = 0;
    const char *why = "";
    for (int i = 0; i < opt.connections; i++) count += all[i].count;
    double *end_ms = calloc(count + 1, sizeof(double)), *whole_ms = calloc(count + 1, sizeof(double));
    for (int i = 0; i < opt.connections; i++) {
        for (long n = 0; n < all[i].count; n++, at++) {
            end_ms[at] = all[i].end_ms[n];
            whole_ms[at] = all[i].whole_ms[n];
        }
        bad += all[i].wrong;
        replaced += all[i].replaced;
        if (all[i].wrong && !*why) why = all[i].why;
    }
    printf("{");
    print_times("end_ms", end_ms, count);
    print_times("whole_ms", whole_ms, count);
    printf("\"messages\": %ld, \"wrong\": %ld, \"why\": \"%s\", \"seconds\": %.6f, \"cpu_s\": %.6f, \"replaced\": %lu, "
           "\"steps\": %u}\n", count, bad, why, seconds, cpu_s, (unsigned long)replaced, all[0].steps);
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void set(const char *word) {
    const char *value = strchr(word, '=');
    size_t size = value ? (size_t)(value++ - word) : 0;
    static const struct { const char *name; int *whole; double *real; } known[] = {
        {"connections", &opt.connections, NULL}, {"warm", &opt.warm, NULL}, {"go", &opt.go, NULL},
        {"per_connection", &opt.per_connection, NULL}, {"seconds", NULL, &opt.seconds}, {"rate", NULL, &opt.rate},
        {"pause_ms", NULL, &opt.pause_ms},
    };
    if (value && size == 8 && !strncmp(word, "messages", 8)) {
        opt.messages = atol(value);
        return;
    }
    if (value && size == 6 && !strncmp(word, "canary", 6)) {
        opt.canary = value;
        if (strlen(value) > 100) fail("the canary is too long");
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (size != strlen(known[i].name) || strncmp(word, known[i].name, size)) continue;
        if (known[i].whole) *known[i].whole = atoi(value);
        else *known[i].real = atof(value);
        return;
    }
    fail("unknown: %s", word);
}

/* Says where it is, and waits for a line. */
static void wait_for_word(const char *where) {
    if (!opt.go) return;
    printf("%s\n", where);
    fflush(stdout);
    while (getchar() != '\n')
        if (feof(stdin)) exit(1);
}

int main(int argc, char **argv) {
    if (argc < 5) fail("driver ADDRESS MESSAGE RECIPIENTS EXPECT [name=value ...]");
    opt.address = argv[1];
    read_message(argv[2]);
    read_recipients(argv[3]);
    while (EXPECTATIONS[opt.expect] && strcmp(EXPECTATIONS[opt.expect], argv[4])) opt.expect++;
    if (!EXPECTATIONS[opt.expect]) fail("unknown expectation %s", argv[4]);
    for (int i = 5; i < argc; i++) set(argv[i]);
    struct connection *all = calloc(opt.connections, sizeof *all);
    pthread_barrier_init(&gate, NULL, opt.connections + 1);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 18);
    for (int i = 0; i < opt.connections; i++)
        if (pthread_create(&all[i].thread, &small, run, &all[i])) fail("no thread");
    pthread_barrier_wait(&gate);
    wait_for_word("connected");
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    wait_for_word("ready");
    double before = cpu();
    began = now();
    pthread_barrier_wait(&gate);
    for (int i = 0; i < opt.connections; i++) pthread_join(all[i].thread, NULL);
    report(all, now() - began, cpu() - before);
    return 0;
}
