/* replay.c - runs a fuzz target on files and the files of folders, without libFuzzer. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

static unsigned passed, failed;

static void report(const char *path)
{
    failed++;
    perror(path);
}

static void replay_file(const char *path, size_t size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(size > 0 ? size : 1); /* exactly as large, for the address sanitizer */
    if (f == NULL || data == NULL || fread(data, 1, size, f) != size) {
        report(path);
    } else {
        LLVMFuzzerTestOneInput(data, size);
        passed++;
    }
    free(data);
    if (f != NULL)
        fclose(f);
}

static void replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        report(path);
        return;
    }
    if (!S_ISDIR(st.st_mode)) {
        replay_file(path, (size_t)st.st_size);
        return;
    }

    DIR *dir = opendir(path);
    if (dir == NULL) {
        report(path);
        return;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char child[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        replay(child);
    }
    closedir(dir);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    printf("%u passed, %u failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
