#include "test.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/new.h"
#include "app/templates.h"

static char root[] = "/tmp/mesa-new-XXXXXX";
static char dir[PATH_MAX];
static char path[PATH_MAX];
static char err[512];

static const char *in_dir(const char *name)
{
    snprintf(path, sizeof path, "%.*s/%s", PATH_MAX / 2, dir, name);
    return path;
}

static bool begin(void)
{
    memcpy(root + sizeof root - 7, "XXXXXX", 6);
    if (mkdtemp(root) == NULL)
        return false;
    snprintf(dir, sizeof dir, "%s/app", root);
    return true;
}

static void end(void)
{
    for (size_t i = 0; i < mesa_template_count; i++)
        unlink(in_dir(mesa_templates[i].name));
    rmdir(dir);
    CHECK_EQ_INT(rmdir(root), 0);
}

static bool exists(const char *name)
{
    struct stat st;
    return stat(in_dir(name), &st) == 0;
}

TEST(it_writes_the_three_files_whole)
{
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mesa_new_write(dir, err, sizeof err), MESA_OK);
    CHECK_EQ_INT(mesa_template_count, 3);
    for (size_t i = 0; i < mesa_template_count; i++) {
        char text[8192];
        FILE *f = fopen(in_dir(mesa_templates[i].name), "rb");
        if (!CHECK(f != NULL))
            continue;
        size_t n = fread(text, 1, sizeof text, f);
        fclose(f);
        CHECK_EQ_MEM(text, n, mesa_templates[i].text.p, mesa_templates[i].text.len);
    }
    end();
}

TEST(it_overwrites_nothing_and_completes_nothing)
{
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mkdir(dir, 0777), 0);
    FILE *f = fopen(in_dir("on_message.lua"), "wb");
    CHECK_OR_RETURN(f != NULL);
    fclose(f);
    CHECK_EQ_INT(mesa_new_write(dir, err, sizeof err), MESA_EINUSE);
    CHECK(strstr(err, "on_message.lua exists already") != NULL);
    CHECK(!exists("server.lua"));
    CHECK(!exists("auth.lua"));
    end();
}

TEST(a_folder_that_cannot_be_made_is_named)
{
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mesa_new_write(in_dir("deeper"), err, sizeof err), MESA_EIO);
    CHECK(strstr(err, "app/deeper") != NULL);
    end();
}
