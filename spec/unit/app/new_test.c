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
    rmdir(in_dir("public"));
    rmdir(dir);
    CHECK_EQ_INT(rmdir(root), 0);
}

static bool exists(const char *name)
{
    struct stat st;
    return stat(in_dir(name), &st) == 0;
}

/* The file that was written, in `text`. */
static size_t written(const char *name, char *text, size_t size)
{
    FILE *f = fopen(in_dir(name), "rb");
    if (!CHECK(f != NULL))
        return 0;
    size_t n = fread(text, 1, size, f);
    fclose(f);
    return n;
}

TEST(it_writes_the_files_whole)
{
    char text[8192];
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mesa_new_write(dir, "/usr/share/lua/5.1", err, sizeof err), MESA_OK);
    for (size_t i = 0; i < mesa_template_count; i++) {
        const struct mesa_template *t = &mesa_templates[i];
        if (strcmp(t->name, ".luarc.json") == 0)
            continue;
        size_t n = written(t->name, text, sizeof text);
        CHECK_EQ_MEM(text, n, t->text.p, t->text.len);
    }
    end();
}

TEST(it_shows_editors_the_library)
{
    char text[1024];
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mesa_new_write(dir, "/opt/a \"b\"\\c", err, sizeof err), MESA_OK);
    text[written(".luarc.json", text, sizeof text - 1)] = '\0';
    CHECK(strstr(text, "\"workspace.library\": [\"/opt/a \\\"b\\\"\\\\c\"],\n") != NULL);
    CHECK(strstr(text, "\"workspace.checkThirdParty\": false\n}\n") != NULL);
    end();
}

TEST(it_overwrites_nothing_and_completes_nothing)
{
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mkdir(dir, 0777), 0);
    FILE *f = fopen(in_dir("on_message.lua"), "wb");
    CHECK_OR_RETURN(f != NULL);
    fclose(f);
    CHECK_EQ_INT(mesa_new_write(dir, "/lua", err, sizeof err), MESA_EINUSE);
    CHECK(strstr(err, "on_message.lua exists already") != NULL);
    CHECK(!exists("server.lua"));
    CHECK(!exists("auth.lua"));
    end();
}

TEST(a_folder_that_cannot_be_made_is_named)
{
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mesa_new_write(in_dir("deeper"), "/lua", err, sizeof err), MESA_EIO);
    CHECK(strstr(err, "app/deeper") != NULL);
    end();
}
